/* MIG: the mode of a GPU, and the instances it is divided into. The calls that the agent makes, no more.
 *
 *   gpu 0 migmode 1                  MIG is switched on; without the fact the GPU does not support MIG
 *   gpu 0 mig.2.uuid MIG-...         the instance at index 2; an index without a UUID has none
 *   gpu 0 mig.2.name NVIDIA A100-SXM4-80GB MIG 1g.10gb
 *   gpu 0 mig.2.gi 7                 gpu 0 mig.2.ci 0
 *   gpu 0 mig.2.start 4              the first memory slice of its GPU instance; its index without the fact
 *   gpu 0 mig.2.cistart 1            the first compute slice of its compute instance; its compute instance id without
 *   gpu 0 mig.2.<sms copy decoders encoders jpegs ofas gislices cislices memory> <number>, memory in MiB
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "nvml_mock.h"

#define MAX_INSTANCES 7

typedef struct {
    uint32_t multiprocessors, copy_engines, decoders, encoders, jpegs, ofas, gi_slices, ci_slices;
    uint64_t memory_mib;
} attributes_t;

static char handles[MAX_GPUS][MAX_INSTANCES];

int mig_handle(void *device, int *index, int *number)
{
    char *handle = device;
    if (handle < handles[0] || handle >= handles[MAX_GPUS]) return 0;
    *index = (int)((handle - handles[0]) / MAX_INSTANCES);
    *number = (int)((handle - handles[0]) % MAX_INSTANCES);
    return 1;
}

static long instance_number(void *device, const char *what, long otherwise)
{
    int index, number;
    char key[48];
    if (!mig_handle(device, &index, &number)) return otherwise;
    snprintf(key, sizeof key, "mig.%d.%s", number, what);
    return number_of(index, key, otherwise);
}

static int is_instance(void *device)
{
    int index, number;
    return mig_handle(device, &index, &number);
}

void *mig_by_uuid(int index, const char *uuid)
{
    char key[48];
    for (int i = 0; number_of(index, "migmode", 0) && i < MAX_INSTANCES; i++) {
        snprintf(key, sizeof key, "mig.%d.uuid", i);
        const char *text = text_of(index, key);
        if (text && !strcasecmp(text, uuid)) return &handles[index][i];
    }
    return NULL;
}

int nvmlDeviceIsMigDeviceHandle(void *device, uint32_t *out)
{
    ENTER(nvmlDeviceIsMigDeviceHandle);
    *out = (uint32_t)is_instance(device);
    return SUCCESS;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *device, void **out)
{
    ENTER(nvmlDeviceGetDeviceHandleFromMigDeviceHandle);
    if (!is_instance(device)) return INVALID_ARGUMENT;
    *out = handle_of(index);
    return SUCCESS;
}

int nvmlDeviceGetMigMode(void *device, uint32_t *current, uint32_t *pending)
{
    ENTER(nvmlDeviceGetMigMode);
    if (!text_of(index, "migmode")) return NOT_SUPPORTED;
    *current = *pending = (uint32_t)number_of(index, "migmode", 0);
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(void *device, uint32_t *count)
{
    ENTER(nvmlDeviceGetMaxMigDeviceCount);
    *count = number_of(index, "migmode", 0) ? MAX_INSTANCES : 0;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *device, uint32_t number, void **out)
{
    char key[48];
    ENTER(nvmlDeviceGetMigDeviceHandleByIndex);
    if (!text_of(index, "migmode")) return NOT_SUPPORTED;
    if (number >= MAX_INSTANCES) return INVALID_ARGUMENT;
    snprintf(key, sizeof key, "mig.%u.uuid", number);
    if (!number_of(index, "migmode", 0) || !text_of(index, key)) return NOT_FOUND;
    *out = &handles[index][number];
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(void *device, uint32_t *out)
{
    ENTER(nvmlDeviceGetGpuInstanceId);
    if (!is_instance(device)) return NOT_SUPPORTED;
    *out = (uint32_t)instance_number(device, "gi", 0);
    return SUCCESS;
}

int nvmlDeviceGetComputeInstanceId(void *device, uint32_t *out)
{
    ENTER(nvmlDeviceGetComputeInstanceId);
    if (!is_instance(device)) return NOT_SUPPORTED;
    *out = (uint32_t)instance_number(device, "ci", 0);
    return SUCCESS;
}

/* The handle of a GPU instance or compute instance is that of the first MIG device in it. */
typedef struct { uint32_t start, size; } placement_t;
typedef struct { void *device; uint32_t id, profile; placement_t placement; } gpu_instance_t;
typedef struct { void *device, *gpu_instance; uint32_t id, profile; placement_t placement; } compute_instance_t;

static void *instance_of(int index, uint32_t gi, long ci)
{
    for (int number = 0; number < MAX_INSTANCES; number++) {
        char key[48];
        void *device = &handles[index][number];
        snprintf(key, sizeof key, "mig.%d.uuid", number);
        if (!number_of(index, "migmode", 0) || !text_of(index, key)) continue;
        if ((uint32_t)instance_number(device, "gi", 0) != gi) continue;
        if (ci < 0 || instance_number(device, "ci", 0) == ci) return device;
    }
    return NULL;
}

int nvmlDeviceGetGpuInstanceById(void *device, uint32_t id, void **out)
{
    ENTER(nvmlDeviceGetGpuInstanceById);
    *out = instance_of(index, id, -1);
    return *out ? 0 : 6;
}

int nvmlGpuInstanceGetInfo(void *device, gpu_instance_t *out)
{
    ENTER(nvmlGpuInstanceGetInfo);
    int number;
    if (!mig_handle(device, &index, &number)) return 2;
    *out = (gpu_instance_t){
        .device = handle_of(index),
        .id = (uint32_t)instance_number(device, "gi", 0),
        .placement = {(uint32_t)instance_number(device, "start", number),
                      (uint32_t)instance_number(device, "gislices", 1)},
    };
    return 0;
}

int nvmlGpuInstanceGetComputeInstanceById(void *device, uint32_t id, void **out)
{
    ENTER(nvmlGpuInstanceGetComputeInstanceById);
    *out = instance_of(index, (uint32_t)instance_number(device, "gi", 0), id);
    return *out ? 0 : 6;
}

int nvmlComputeInstanceGetInfo_v2(void *device, compute_instance_t *out)
{
    ENTER(nvmlComputeInstanceGetInfo_v2);
    uint32_t id = (uint32_t)instance_number(device, "ci", 0);
    *out = (compute_instance_t){
        .device = handle_of(index),
        .gpu_instance = device,
        .id = id,
        .placement = {(uint32_t)instance_number(device, "cistart", id),
                      (uint32_t)instance_number(device, "cislices", 1)},
    };
    return 0;
}

int nvmlDeviceGetAttributes_v2(void *device, attributes_t *out)
{
    ENTER(nvmlDeviceGetAttributes_v2);
    if (!is_instance(device)) return NOT_SUPPORTED;
    *out = (attributes_t){
        .multiprocessors = (uint32_t)instance_number(device, "sms", 14),
        .copy_engines = (uint32_t)instance_number(device, "copy", 1),
        .decoders = (uint32_t)instance_number(device, "decoders", 0),
        .encoders = (uint32_t)instance_number(device, "encoders", 0),
        .jpegs = (uint32_t)instance_number(device, "jpegs", 0),
        .ofas = (uint32_t)instance_number(device, "ofas", 0),
        .gi_slices = (uint32_t)instance_number(device, "gislices", 1),
        .ci_slices = (uint32_t)instance_number(device, "cislices", 1),
        .memory_mib = (uint64_t)instance_number(device, "memory", 9728),
    };
    return SUCCESS;
}
