/* The library itself, and who a GPU is. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "nvml_mock.h"

#define NO_ATTACH 2u

typedef struct { char legacy[16]; uint32_t domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
typedef struct { uint64_t total, free, used; } memory_t;

static int attached;

/* Attaches to every GPU, unless it is told not to: one that hangs hangs this call. One that is lost is passed over. */
int nvmlInitWithFlags(unsigned flags)
{
    int index, code = enter_node("nvmlInitWithFlags");
    for (int i = 0; !code && !(flags & NO_ATTACH) && i < gpu_count(); i++)
        if (!number_of(i, "gone", 0)) (void)enter(handle_of(i), "nvmlInitWithFlags", &index);
    if (!code && !(flags & NO_ATTACH)) code = (int)node_number("attachfails", SUCCESS);
    attached = !(flags & NO_ATTACH);
    return code;
}

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code)
{
    switch (code) {
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case 9: return "Driver Not Loaded";
    case TIMEOUT: return "Timeout";
    case GPU_IS_LOST: return "GPU is lost";
    case 16: return "GPU requires reset";
    case 18: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *out, unsigned size)
{
    int code = enter_node("nvmlSystemGetDriverVersion");
    const char *text = node_text("driver_version");
    snprintf(out, size, "%s", text ? text : "");
    return code;
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

int nvmlDeviceGetHandleByIndex_v2(unsigned place, void **out)
{
    int found = counted_at(place);
    if (found < 0) return INVALID_ARGUMENT;
    void *device = handle_of(found);
    ENTER(nvmlDeviceGetHandleByIndex_v2);
    *out = device;
    return SUCCESS;
}

/* `searches`: GPUs are initialised on the way to the one that is wanted, as far as they were not before. */
static int by_text(const char *call, const char *key, const char *wanted, int searches, void **out)
{
    int index, code = enter_node(call);
    for (int i = 0; !code && i < gpu_count(); i++) {
        const char *text = text_of(i, key);
        if (text && !number_of(i, "gone", 0) && !strcasecmp(text, wanted)) {
            *out = handle_of(i);
            return enter(*out, call, &index);
        }
        if (searches && !number_of(i, "gone", 0)) (void)enter(handle_of(i), call, &index);
    }
    return code ? code : NOT_FOUND;
}

/* Answers that a GPU is lost if any is, not only the one that is asked for: so nvml.h has it. */
int nvmlDeviceGetHandleByUUID(const char *uuid, void **out)
{
    for (int i = 0; i < gpu_count(); i++)
        if (number_of(i, "return", 0) == GPU_IS_LOST) return GPU_IS_LOST;
    return by_text("nvmlDeviceGetHandleByUUID", "uuid", uuid, !attached, out);
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *wanted, void **out)
{
    char padded[32];
    snprintf(padded, sizeof padded, "%s%s", strlen(wanted) < 16 ? "0000" : "", wanted);
    return by_text("nvmlDeviceGetHandleByPciBusId_v2", "bus", padded, 0, out);
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

#define TEXT(call, key) \
    int call(void *device, char *out, unsigned size) { \
        ENTER(call); const char *text = text_of_handle(device, index, key); if (!text) return NOT_SUPPORTED; \
        snprintf(out, size, "%s", text); return SUCCESS; }

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
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *device, memory_t *out)
{
    ENTER(nvmlDeviceGetMemoryInfo);
    *out = (memory_t){(uint64_t)number_of(index, "memory", 1L << 36), 0, 0};
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor)
{
    ENTER(nvmlDeviceGetCudaComputeCapability);
    *major = (int)number_of(index, "capability", 90) / 10;
    *minor = (int)number_of(index, "capability", 90) % 10;
    return SUCCESS;
}
