/* The library itself, and the identity of a GPU. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "nvml_mock.h"

#define NO_ATTACH 2u

typedef struct { char legacy[16]; uint32_t domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
typedef struct { uint64_t total, free, used; } memory_t;
typedef struct { uint32_t version; uint64_t total, reserved, free, used; } memory_v2_t;

static int attached;

/* Copies a text, or returns INSUFFICIENT_SIZE. */
static int put_text(char *out, unsigned size, const char *text)
{
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    memcpy(out, text, strlen(text) + 1);
    return SUCCESS;
}

/* Attaches to every GPU, unless the flags say not to: a GPU that hangs hangs this call. A lost GPU is skipped. */
int nvmlInitWithFlags(unsigned flags)
{
    open_library(1);
    int index, code = enter_node("nvmlInitWithFlags");
    for (int i = 0; !code && !(flags & NO_ATTACH) && i < gpu_count(); i++)
        if (!number_of(i, "gone", 0)) (void)enter(handle_of(i), "nvmlInitWithFlags", &index);
    if (!code && !(flags & NO_ATTACH)) code = (int)node_number("attachfails", SUCCESS);
    attached = !(flags & NO_ATTACH);
    if (code) open_library(-1);
    return code;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlInit(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return open_library(-1) ? SUCCESS : UNINITIALIZED; }

const char *nvmlErrorString(int code)
{
    static const char *const texts[] = {
        "Success", "Uninitialized", "Invalid Argument", "Not Supported", "Insufficient Permissions", "Already Initialized",
        "Not Found", "Insufficient Size", "Insufficient External Power", "Driver Not Loaded", "Timeout",
        "Interrupt Request Issue", "NVML Shared Library Not Found", "Function Not Found", "Corrupted infoROM", "GPU is lost",
        "GPU requires reset", "Operating System Error", "Driver/library version mismatch", "GPU is in use", "Out of Memory",
        "No Data", "vGPU with ECC is not supported", "Insufficient Resources", "Frequency Not Supported",
        "Argument version mismatch", "Deprecated", "Not Ready", "No GPUs were found", "Invalid State",
        "Reset Type Not Supported",
    };
    return code >= 0 && code < (int)(sizeof texts / sizeof *texts) ? texts[code] : "Unknown Error";
}

int nvmlSystemGetDriverVersion(char *out, unsigned size)
{
    int code = enter_node("nvmlSystemGetDriverVersion");
    const char *text = node_text("driver_version");
    return code ? code : put_text(out, size, text ? text : "");
}

int nvmlSystemGetCudaDriverVersion(int *out)
{
    int code = enter_node("nvmlSystemGetCudaDriverVersion");
    *out = (int)node_number("cuda", 13020);
    return code;
}

int nvmlDeviceGetCount_v2(unsigned *out)
{
    int code = enter_node("nvmlDeviceGetCount_v2");
    *out = (unsigned)counted();
    return code;
}

int nvmlDeviceGetCount(unsigned *out) { return nvmlDeviceGetCount_v2(out); }

int nvmlDeviceGetHandleByIndex_v2(unsigned place, void **out)
{
    int found = open_library(0) ? counted_at(place) : -2;
    if (found == -2) return UNINITIALIZED;
    if (found < 0) return INVALID_ARGUMENT;
    void *device = handle_of(found);
    ENTER(nvmlDeviceGetHandleByIndex_v2);
    *out = device;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex(unsigned place, void **out) { return nvmlDeviceGetHandleByIndex_v2(place, out); }

/* Answers that a GPU is lost if any is, not only the one that is asked for. GPUs are initialised on the way to it, as far
 * as they were not before. A MIG instance is found by its own UUID. */
int nvmlDeviceGetHandleByUUID(const char *uuid, void **out)
{
    int index, code = enter_node("nvmlDeviceGetHandleByUUID");
    if (!code && !uuid) return INVALID_ARGUMENT;
    for (int i = 0; !code && i < gpu_count(); i++)
        if (number_of(i, "return", 0) == GPU_IS_LOST) return GPU_IS_LOST;
    for (int i = 0; !code && i < gpu_count(); i++) {
        const char *text = text_of(i, "uuid");
        if (number_of(i, "gone", 0)) continue;
        *out = mig_by_uuid(i, uuid);
        if (!*out && text && !strcasecmp(text, uuid)) *out = handle_of(i);
        if (*out) return enter(*out, "nvmlDeviceGetHandleByUUID", &index);
        if (!attached) (void)enter(handle_of(i), "nvmlDeviceGetHandleByUUID", &index);
    }
    return code ? code : NOT_FOUND;
}

/* The three numbers of `domain:bus:device[.function]` or `bus:device.function`, in hexadecimal. */
static int slot_of(const char *text, unsigned slot[3])
{
    unsigned function;
    char rest;
    if (sscanf(text, "%x:%x:%x.%x%c", &slot[0], &slot[1], &slot[2], &function, &rest) == 4) return 1;
    if (sscanf(text, "%x:%x:%x%c", &slot[0], &slot[1], &slot[2], &rest) == 3) return 1;
    slot[0] = 0;
    return sscanf(text, "%x:%x.%x%c", &slot[1], &slot[2], &function, &rest) == 3;
}

/* Answers for the GPU in that slot, and touches no other. */
int nvmlDeviceGetHandleByPciBusId_v2(const char *wanted, void **out)
{
    unsigned slot[3], there[3];
    int index, code = enter_node("nvmlDeviceGetHandleByPciBusId_v2");
    if (!code && (!wanted || !slot_of(wanted, slot))) return INVALID_ARGUMENT;
    for (int i = 0; !code && i < gpu_count(); i++) {
        const char *text = text_of(i, "bus");
        if (!text || number_of(i, "gone", 0) || !slot_of(text, there) || memcmp(slot, there, sizeof slot)) continue;
        *out = handle_of(i);
        return enter(*out, "nvmlDeviceGetHandleByPciBusId_v2", &index);
    }
    return code ? code : NOT_FOUND;
}

int nvmlDeviceGetHandleByPciBusId(const char *wanted, void **out) { return nvmlDeviceGetHandleByPciBusId_v2(wanted, out); }

/* The fact of a GPU, or of the MIG instance of the handle. */
static const char *text_of_handle(void *device, int index, const char *key)
{
    int number;
    char longer[64];
    if (!mig_handle(device, &index, &number)) return text_of(index, key);
    snprintf(longer, sizeof longer, "mig.%d.%s", number, key);
    return text_of(index, longer);
}

#define TEXT(call, key) \
    int call(void *device, char *out, unsigned size) { \
        ENTER(call); const char *text = text_of_handle(device, index, key); if (!text) return NOT_SUPPORTED; \
        return put_text(out, size, text); }

TEXT(nvmlDeviceGetUUID, "uuid")
TEXT(nvmlDeviceGetName, "name")
TEXT(nvmlDeviceGetSerial, "serial")
NUMBER(nvmlDeviceGetMinorNumber, uint32_t, "minor", index)
NUMBER(nvmlDeviceGetArchitecture, uint32_t, "architecture", 9)
NUMBER(nvmlDeviceGetIndex, uint32_t, "index", index)
NUMBER(nvmlDeviceGetBrand, uint32_t, "brand", 14)

/* `pci.device` holds the device's number in the upper half and the vendor's in the lower. */
int nvmlDeviceGetPciInfo_v3(void *device, pci_t *out)
{
    unsigned slot[3];
    ENTER(nvmlDeviceGetPciInfo_v3);
    memset(out, 0, sizeof *out);
    const char *text = text_of(index, "bus");
    if (!text || !slot_of(text, slot)) return UNKNOWN;
    out->domain = slot[0];
    out->bus = slot[1];
    out->device = slot[2];
    out->id = (uint32_t)number_of(index, "pci.device", 0x233010de);
    out->subsystem = (uint32_t)number_of(index, "pci.subsystem", 0x16c110de);
    snprintf(out->legacy, sizeof out->legacy, "%04X:%02X:%02X.0", slot[0] & 0xFFFF, slot[1] & 0xFF, slot[2] & 0xFF);
    snprintf(out->bus_id, sizeof out->bus_id, "%08X:%02X:%02X.0", slot[0], slot[1] & 0xFF, slot[2] & 0xFF);
    return SUCCESS;
}

/* `memory` is the total, of a MIG instance its part in MiB; `memused` is the used part. */
static memory_t memory_of(void *device, int index)
{
    int number;
    char key[48];
    uint64_t total = (uint64_t)number_of(index, "memory", 1L << 36), used = (uint64_t)number_of(index, "memused", 600L << 20);
    if (mig_handle(device, &index, &number)) {
        snprintf(key, sizeof key, "mig.%d.memory", number);
        total = (uint64_t)number_of(index, key, 9728) << 20;
        used = 0;
    }
    if (used > total) used = total;
    return (memory_t){total, total - used, used};
}

int nvmlDeviceGetMemoryInfo(void *device, memory_t *out)
{
    ENTER(nvmlDeviceGetMemoryInfo);
    *out = memory_of(device, index);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2_t *out)
{
    ENTER(nvmlDeviceGetMemoryInfo_v2);
    if (out->version != (sizeof(memory_v2_t) | 2u << 24)) return VERSION_MISMATCH;
    memory_t memory = memory_of(device, index);
    out->total = memory.total;
    out->reserved = 0;
    out->free = memory.free;
    out->used = memory.used;
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor)
{
    ENTER(nvmlDeviceGetCudaComputeCapability);
    *major = (int)number_of(index, "capability", 90) / 10;
    *minor = (int)number_of(index, "capability", 90) % 10;
    return SUCCESS;
}

int is_before(int index, int architecture) { return number_of(index, "architecture", HOPPER) < architecture; }
