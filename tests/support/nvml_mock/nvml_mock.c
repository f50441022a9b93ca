/* A libnvidia-ml.so.1 for tests: answers what a state file says, so that the real pynvml runs without a GPU.
 *
 * NVML_MOCK_STATE names the file; it is read again at every call when it changed. One fact a line, `gpu` first:
 *
 *   driver_version 595.45.04      cuda 13020      init 9          (init: what nvmlInitWithFlags returns)
 *   gpu 0 uuid GPU-...            gpu 0 bus 00000000:1B:00.0      gpu 0 name NVIDIA H100 80GB HBM3
 *   gpu 0 return 15               every call about it returns 15
 *   gpu 0 return.nvmlDeviceGetName 3                              one call returns 3
 *   gpu 0 hang 1                  calls about it never return, until the file says hang 0
 *   gpu 0 field.230 1             gpu 0 fieldret.230 3            gpu 0 link.5 0
 *   gpu 0 ecc.1.0 7               ecc.<1 uncorrected, 0 corrected>.<0 volatile, 1 aggregate>
 *   gpu 0 <any key read below> <number>                         (MIG: nvml_mig.c)
 *   xid 3 0 79                    event number 3: GPU 0, XID 79   (recovery 4 0: event 4, GPU 0, type 0x8000)
 *   xid 5 0 94 7                  event number 5: XID 94 of GPU instance 7
 *
 * The layouts are our own declarations of the documented ABI. -DMOCK_OLD leaves out what drivers before R525 lack.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <pthread.h>

#include "nvml_mock.h"

#define MAX_FACTS 192
#define MAX_EVENTS 64
#define NO_INSTANCE 0xFFFFFFFFu

typedef struct { char key[64]; char text[96]; } fact_t;
typedef struct { int index; int count; fact_t facts[MAX_FACTS]; } gpu_t;
typedef struct { unsigned long number; int gpu; unsigned long xid; unsigned gi; } event_t;
typedef struct { void *device; uint64_t type, data; uint32_t gi, ci; } event_data_t;
typedef struct {
    uint32_t field, scope; int64_t timestamp, latency; uint32_t type, ret;
    union { double d; uint32_t u; uint64_t ull; } value;
} field_value_t;
typedef struct { char legacy[16]; uint32_t domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
typedef struct { uint64_t total, free, used; } memory_t;
typedef struct { uint32_t version; int32_t margin; } margin_t;
typedef struct { uint32_t max, high, partial, low, none; } histogram_t;
typedef struct { uint32_t version; uint64_t counts[11]; uint32_t exceeded; } sram_t;
typedef struct { uint32_t version; uint8_t cluster[16]; uint32_t status, clique; uint8_t state; uint32_t health; } fabric_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static gpu_t gpus[MAX_GPUS];
static int gpu_count;
static event_t events[MAX_EVENTS];
static int event_count;
static unsigned long heard;
static char driver_version[96];
static long cuda, init_code;
static struct timespec loaded;

static void put(int index, const char *key, const char *text)
{
    gpu_t *gpu = &gpus[index];
    for (int i = 0; i < gpu->count; i++)
        if (!strcmp(gpu->facts[i].key, key)) {
            snprintf(gpu->facts[i].text, sizeof gpu->facts[i].text, "%s", text);
            return;
        }
    if (gpu->count < MAX_FACTS) {
        snprintf(gpu->facts[gpu->count].key, sizeof gpu->facts[0].key, "%s", key);
        snprintf(gpu->facts[gpu->count].text, sizeof gpu->facts[0].text, "%s", text);
        gpu->count++;
    }
}

static void take(const char *line)
{
    int index, gpu;
    unsigned gi = NO_INSTANCE;
    unsigned long number, xid;
    char key[64], text[96];
    if (sscanf(line, "gpu %d %63s %95[^\n]", &index, key, text) == 3 && index >= 0 && index < MAX_GPUS) {
        gpus[index].index = index;
        if (index >= gpu_count) gpu_count = index + 1;
        put(index, key, text);
    } else if (sscanf(line, "xid %lu %d %lu %u", &number, &gpu, &xid, &gi) >= 3 && event_count < MAX_EVENTS)
        events[event_count++] = (event_t){number, gpu, xid, gi};
    else if (sscanf(line, "recovery %lu %d", &number, &gpu) == 2 && event_count < MAX_EVENTS)
        events[event_count++] = (event_t){number, gpu, 0, NO_INSTANCE};
    else if (sscanf(line, "driver_version %95s", text) == 1)
        snprintf(driver_version, sizeof driver_version, "%s", text);
    else if (sscanf(line, "cuda %ld", &cuda) != 1)
        (void)sscanf(line, "init %ld", &init_code);
}

static void refresh(void)
{
    const char *path = getenv("NVML_MOCK_STATE");
    struct stat status;
    char line[256];
    if (!path || stat(path, &status)) return;
    if (status.st_mtim.tv_sec == loaded.tv_sec && status.st_mtim.tv_nsec == loaded.tv_nsec) return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    memset(gpus, 0, sizeof gpus);
    gpu_count = event_count = 0;
    init_code = 0;
    while (fgets(line, sizeof line, file)) take(line);
    fclose(file);
    loaded = status.st_mtim;
}

const char *text_of(int index, const char *key)
{
    for (int i = 0; i < gpus[index].count; i++)
        if (!strcmp(gpus[index].facts[i].key, key)) return gpus[index].facts[i].text;
    return NULL;
}

long number_of(int index, const char *key, long otherwise)
{
    const char *text = text_of(index, key);
    return text ? strtol(text, NULL, 0) : otherwise;
}

int enter(void *device, const char *call, int *index)
{
    char key[96];
    int number;
    snprintf(key, sizeof key, "return.%s", call);
    if (!mig_handle(device, index, &number)) *index = (int)((gpu_t *)device - gpus);
    for (;;) {
        pthread_mutex_lock(&lock);
        refresh();
        long hang = number_of(*index, "hang", 0);
        long code = number_of(*index, key, number_of(*index, "return", 0));
        pthread_mutex_unlock(&lock);
        if (!hang) return (int)code;
        usleep(20000);
    }
}

static void current(void)
{
    pthread_mutex_lock(&lock);
    refresh();
    pthread_mutex_unlock(&lock);
}

/* The fact of a GPU, or of the MIG instance that the handle means. */
static const char *text_of_handle(void *device, int index, const char *key)
{
    int number;
    char longer[64];
    if (!mig_handle(device, &index, &number)) return text_of(index, key);
    snprintf(longer, sizeof longer, "mig.%d.%s", number, key);
    return text_of(index, longer);
}

#define NUMBER(call, type, key, otherwise) \
    int call(void *device, type *out) { ENTER(call); *out = (type)number_of(index, key, otherwise); return 0; }
#define TEXT(call, key) \
    int call(void *device, char *out, unsigned size) { \
        ENTER(call); const char *text = text_of_handle(device, index, key); if (!text) return 3; \
        snprintf(out, size, "%s", text); return 0; }

int nvmlInitWithFlags(unsigned flags) { (void)flags; current(); return (int)init_code; }
int nvmlShutdown(void) { return 0; }

const char *nvmlErrorString(int code)
{
    switch (code) {
    case 3: return "Not Supported";
    case 9: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *out, unsigned size) { current(); snprintf(out, size, "%s", driver_version); return 0; }
int nvmlSystemGetCudaDriverVersion(int *out) { current(); *out = (int)cuda; return 0; }
int nvmlDeviceGetCount_v2(unsigned *out) { current(); *out = (unsigned)gpu_count; return 0; }

int nvmlDeviceGetHandleByIndex_v2(unsigned number, void **out)
{
    void *device = &gpus[number];
    ENTER(nvmlDeviceGetHandleByIndex_v2);
    *out = device;
    return 0;
}

static int by_text(const char *call, const char *key, const char *wanted, void **out)
{
    int index;
    current();
    for (int i = 0; i < gpu_count; i++) {
        const char *text = text_of(i, key);
        if (text && !strcasecmp(text, wanted)) {
            int code = enter(&gpus[i], call, &index);
            *out = &gpus[i];
            return code;
        }
    }
    return 6;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **out) { return by_text("nvmlDeviceGetHandleByUUID", "uuid", uuid, out); }

int nvmlDeviceGetHandleByPciBusId_v2(const char *wanted, void **out)
{
    char padded[32];
    snprintf(padded, sizeof padded, "%s%s", strlen(wanted) < 16 ? "0000" : "", wanted);
    return by_text("nvmlDeviceGetHandleByPciBusId_v2", "bus", padded, out);
}

TEXT(nvmlDeviceGetUUID, "uuid")
TEXT(nvmlDeviceGetName, "name")
TEXT(nvmlDeviceGetSerial, "serial")
NUMBER(nvmlDeviceGetMinorNumber, uint32_t, "minor", index)
NUMBER(nvmlDeviceGetArchitecture, uint32_t, "architecture", 9)
NUMBER(nvmlDeviceGetBrand, uint32_t, "brand", 14)

int nvmlDeviceGetPciInfo_v3(void *device, pci_t *out)
{
    ENTER(nvmlDeviceGetPciInfo_v3);
    memset(out, 0, sizeof *out);
    snprintf(out->bus_id, sizeof out->bus_id, "%s", text_of(index, "bus"));
    return 0;
}

int nvmlDeviceGetMemoryInfo(void *device, memory_t *out)
{
    ENTER(nvmlDeviceGetMemoryInfo);
    *out = (memory_t){(uint64_t)number_of(index, "memory", 1L << 36), 0, 0};
    return 0;
}

int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor)
{
    ENTER(nvmlDeviceGetCudaComputeCapability);
    *major = 9;
    *minor = 0;
    return 0;
}

int nvmlDeviceGetFieldValues(void *device, int count, field_value_t *values)
{
    char key[32];
    ENTER(nvmlDeviceGetFieldValues);
    for (int i = 0; i < count; i++) {
        field_value_t *value = &values[i];
        if (value->field == 165) snprintf(key, sizeof key, "linkstate.%u", value->scope);
        else snprintf(key, sizeof key, "field.%u", value->field);
        const char *text = text_of(index, key);
        snprintf(key, sizeof key, "fieldret.%u", value->field);
        value->ret = (uint32_t)number_of(index, key, text ? 0 : 3);
        value->type = (uint32_t)number_of(index, "fieldtype", 1);
        value->value.ull = 0;
        if (text) value->value.u = (uint32_t)strtoul(text, NULL, 0);
    }
    return 0;
}

int nvmlDeviceGetNvLinkState(void *device, unsigned link, uint32_t *out)
{
    char key[32];
    ENTER(nvmlDeviceGetNvLinkState);
    if (link >= (unsigned)number_of(index, "links", 0)) return 2;
    snprintf(key, sizeof key, "link.%u", link);
    *out = (uint32_t)number_of(index, key, 1);
    return 0;
}

int nvmlDeviceGetTotalEccErrors(void *device, int kind, int counter, uint64_t *out)
{
    char key[32];
    ENTER(nvmlDeviceGetTotalEccErrors);
    snprintf(key, sizeof key, "ecc.%d.%d", kind, counter);
    *out = (uint64_t)number_of(index, key, 0);
    return 0;
}

int nvmlDeviceGetRemappedRows(void *device, uint32_t *corrected, uint32_t *uncorrected, uint32_t *pending, uint32_t *failed)
{
    ENTER(nvmlDeviceGetRemappedRows);
    *corrected = 0;
    *uncorrected = (uint32_t)number_of(index, "remapped", 0);
    *pending = (uint32_t)number_of(index, "pending", 0);
    *failed = (uint32_t)number_of(index, "failed", 0);
    return 0;
}

int nvmlDeviceGetRowRemapperHistogram(void *device, histogram_t *out)
{
    ENTER(nvmlDeviceGetRowRemapperHistogram);
    *out = (histogram_t){.none = (uint32_t)number_of(index, "nospare", 0)};
    return 0;
}

NUMBER(nvmlDeviceGetTemperatureThresholdOf, uint32_t, "slowdown", 90)

int nvmlDeviceGetTemperatureThreshold(void *device, int threshold, uint32_t *out)
{
    return threshold == 1 ? nvmlDeviceGetTemperatureThresholdOf(device, out) : 3;
}

int nvmlDeviceGetTemperature(void *device, int sensor, uint32_t *out)
{
    ENTER(nvmlDeviceGetTemperature);
    (void)sensor;
    *out = (uint32_t)number_of(index, "temperature", 40);
    return 0;
}

NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, uint64_t, "reasons", 0)

#ifndef MOCK_OLD
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, uint64_t, "reasons", 0)

int nvmlDeviceGetMarginTemperature(void *device, margin_t *out)
{
    ENTER(nvmlDeviceGetMarginTemperature);
    if (out->version != (sizeof(margin_t) | 1u << 24)) return 25;
    out->margin = (int32_t)number_of(index, "margin", 50);
    return 0;
}

int nvmlDeviceGetSramEccErrorStatus(void *device, sram_t *out)
{
    ENTER(nvmlDeviceGetSramEccErrorStatus);
    if (out->version != (sizeof(sram_t) | 1u << 24)) return 25;
    out->exceeded = (uint32_t)number_of(index, "sram", 0);
    return 0;
}

int nvmlDeviceGetGpuFabricInfoV(void *device, fabric_t *out)
{
    ENTER(nvmlDeviceGetGpuFabricInfoV);
    if (out->version != (sizeof(fabric_t) | 2u << 24)) return 25;
    out->state = (uint8_t)number_of(index, "fabric", 3);
    out->status = (uint32_t)number_of(index, "fabricstatus", 0);
    out->health = (uint32_t)number_of(index, "fabrichealth", 0);
    return 0;
}
#endif

NUMBER(nvmlDeviceGetSupportedEventTypes, uint64_t, "events", 0xc008)

int nvmlEventSetCreate(void **out) { static int set; *out = &set; return 0; }
int nvmlEventSetFree(void *set) { (void)set; return 0; }

int nvmlDeviceRegisterEvents(void *device, uint64_t types, void *set)
{
    ENTER(nvmlDeviceRegisterEvents);
    (void)types, (void)set;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < event_count; i++)
        if (events[i].number > heard) heard = events[i].number;
    pthread_mutex_unlock(&lock);
    return 0;
}

int nvmlEventSetWait_v2(void *set, event_data_t *out, unsigned milliseconds)
{
    (void)set;
    for (unsigned waited = 0; waited < milliseconds; waited += 20) {
        pthread_mutex_lock(&lock);
        refresh();
        for (int i = 0; i < event_count; i++)
            if (events[i].number > heard) {
                heard = events[i].number;
                uint64_t type = events[i].xid ? 0x8 : 0x8000;
                *out = (event_data_t){&gpus[events[i].gpu], type, events[i].xid, events[i].gi, NO_INSTANCE};
                pthread_mutex_unlock(&lock);
                return events[i].xid == 9999 ? 15 : 0;
            }
        pthread_mutex_unlock(&lock);
        usleep(20000);
    }
    return 10;
}
