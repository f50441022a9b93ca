/* Memory, repair, heat, clocks, power and processes. */
#include <string.h>
#include <stdio.h>

#include "nvml_mock.h"

typedef struct { uint32_t version; int32_t margin; } margin_t;
typedef struct { uint32_t max, high, partial, low, none; } histogram_t;
typedef struct { uint32_t version; uint64_t counts[11]; uint32_t exceeded; } sram_t;
typedef struct { uint32_t version, channel, tpc; } repair_t;
typedef struct { uint32_t version, unrepairable; } unrepairable_t;
typedef struct { uint32_t pid; uint64_t memory; uint32_t gi, ci; } process_t;

int nvmlDeviceGetTotalEccErrors(void *device, int kind, int counter, uint64_t *out)
{
    char key[32];
    ENTER(nvmlDeviceGetTotalEccErrors);
    if (kind < 0 || kind > 1 || counter < 0 || counter > 1) return INVALID_ARGUMENT;
    snprintf(key, sizeof key, "ecc.%d.%d", kind, counter);
    *out = (uint64_t)number_of(index, key, 0);
    snprintf(key, sizeof key, "eccret.%d.%d", kind, counter);
    return (int)number_of(index, key, SUCCESS);
}

int nvmlDeviceGetRemappedRows(void *device, uint32_t *corrected, uint32_t *uncorrected, uint32_t *pending, uint32_t *failed)
{
    ENTER(nvmlDeviceGetRemappedRows);
    if (is_before(index, AMPERE) || number_of(index, "migmode", 0)) return NOT_SUPPORTED;
    *corrected = 0;
    *uncorrected = (uint32_t)number_of(index, "remapped", 0);
    *pending = (uint32_t)number_of(index, "pending", 0);
    *failed = (uint32_t)number_of(index, "failed", 0);
    return SUCCESS;
}

int nvmlDeviceGetRowRemapperHistogram(void *device, histogram_t *out)
{
    ENTER(nvmlDeviceGetRowRemapperHistogram);
    if (is_before(index, AMPERE)) return NOT_SUPPORTED;
    *out = (histogram_t){.none = (uint32_t)number_of(index, "nospare", 0)};
    return SUCCESS;
}

int nvmlDeviceGetTemperatureThreshold(void *device, int threshold, uint32_t *out)
{
    ENTER(nvmlDeviceGetTemperatureThreshold);
    *out = (uint32_t)number_of(index, "slowdown", 90);
    return threshold == 1 ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetTemperature(void *device, int sensor, uint32_t *out)
{
    ENTER(nvmlDeviceGetTemperature);
    (void)sensor;
    *out = (uint32_t)number_of(index, "temperature", 40);
    return SUCCESS;
}

NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, uint64_t, "reasons", 0)
NUMBER(nvmlDeviceGetPowerUsage, uint32_t, "power", 300000)

/* The number of processes is the fact `processes`; the list is empty if the caller has no room for it. */
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, uint32_t *count, process_t *out)
{
    ENTER(nvmlDeviceGetComputeRunningProcesses_v3);
    uint32_t running = (uint32_t)number_of(index, "processes", 0), room = *count;
    *count = running;
    if (running > room) return INSUFFICIENT_SIZE;
    for (uint32_t i = 0; i < running; i++) out[i] = (process_t){4242 + i, 1 << 20, 0xFFFFFFFFu, 0xFFFFFFFFu};
    return SUCCESS;
}

#ifndef MOCK_OLD
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, uint64_t, "reasons", 0)

int nvmlDeviceGetMarginTemperature(void *device, margin_t *out)
{
    ENTER(nvmlDeviceGetMarginTemperature);
    if (out->version != (sizeof(margin_t) | 1u << 24)) return VERSION_MISMATCH;
    out->margin = (int32_t)number_of(index, "margin", 50);
    return SUCCESS;
}

int nvmlDeviceGetSramEccErrorStatus(void *device, sram_t *out)
{
    ENTER(nvmlDeviceGetSramEccErrorStatus);
    if (is_before(index, AMPERE)) return NOT_SUPPORTED;
    if (out->version != (sizeof(sram_t) | 1u << 24)) return VERSION_MISMATCH;
    out->exceeded = (uint32_t)number_of(index, "sram", 0);
    return SUCCESS;
}

int nvmlDeviceGetRepairStatus(void *device, repair_t *out)
{
    ENTER(nvmlDeviceGetRepairStatus);
    if (is_before(index, AMPERE)) return NOT_SUPPORTED;
    if (out->version != (sizeof(repair_t) | 1u << 24)) return VERSION_MISMATCH;
    out->channel = (uint32_t)number_of(index, "repair.channel", 0);
    out->tpc = (uint32_t)number_of(index, "repair.tpc", 0);
    return SUCCESS;
}

int nvmlDeviceGetUnrepairableMemoryFlag_v1(void *device, unrepairable_t *out)
{
    ENTER(nvmlDeviceGetUnrepairableMemoryFlag_v1);
    if (is_before(index, HOPPER)) return NOT_SUPPORTED;
    if (out->version != (sizeof(unrepairable_t) | 1u << 24)) return VERSION_MISMATCH;
    out->unrepairable = (uint32_t)number_of(index, "unrepairable", 0);
    return SUCCESS;
}
#endif
