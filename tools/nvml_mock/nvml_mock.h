/* A libnvidia-ml.so.1 without a GPU: its answers come from a state file, so that the real pynvml runs on any machine.
 *
 * NVML_MOCK_STATE names the file, and NVML_MOCK_FAULTS one more, which may be missing and whose facts win. A changed file is
 * read at the next call, so a fault takes effect at once. One fact a line:
 *
 *   node driver_version 595.45.04    node cuda 13020
 *   node return.nvmlInitWithFlags 9  a call that is about no GPU returns 9       node hang.nvmlInitWithFlags 1
 *   node attachfails 15              nvmlInitWithFlags returns 15 unless it is not to attach
 *   gpu 0 uuid GPU-...               gpu 0 bus 00000000:1B:00.0      gpu 0 name NVIDIA H100 80GB HBM3
 *   gpu 0 return 15                  every call about it returns 15  gpu 0 return.nvmlDeviceGetName 3
 *   gpu 0 hang 1                     calls about it never return, until the file changes; also hang.<call>
 *   gpu 0 hanguntil 90000            the same until that millisecond of CLOCK_BOOTTIME
 *   gpu 0 abort 1                    calls about it end the process, with status 134; also abort.<call>
 *   gpu 0 slow 300                   calls about it take 300 ms longer
 *   gpu 0 gone 1                     the driver does not count it, and its handle is lost; the indexes behind it shift
 *   gpu 0 field.230 1                gpu 0 field.213.4 7 (of link 4)     gpu 0 fieldret.230 3
 *   gpu 0 ecc.1.0 7                  ecc.<1 uncorrected, 0 corrected>.<0 volatile, 1 aggregate>
 *   gpu 0 <any key that a file here reads> <number>
 *   event 3 0 0x8 79                 event number 3: GPU 0, type 0x8 (an XID), data 79; a fifth number is the instance
 *   waitfails 4 15                   event number 4: the wait fails with 15
 *
 * NVML_MOCK_TRACE names a file to which each call about a GPU is appended: `<pid> <call> <gpu>`.
 *
 * The layouts are our own declarations of the documented ABI. -DMOCK_OLD leaves out what drivers before R525 lack.
 */
#ifndef NVML_MOCK_H
#define NVML_MOCK_H

#include <stdint.h>

#define MAX_GPUS 16
#define MAX_EVENTS 64

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, TIMEOUT = 10,
       GPU_IS_LOST = 15, VERSION_MISMATCH = 25, UNKNOWN = 999 };

typedef struct { unsigned long number; int gpu; unsigned long type, data, instance; int code; } event_t;

/* A fact of a GPU from the state file, NULL or `otherwise` if the file has none. Keep no pointer over a call. */
const char *text_of(int index, const char *key);
long number_of(int index, const char *key, long otherwise);

/* The same of the node. */
const char *node_text(const char *key);
long node_number(const char *key, long otherwise);

/* The GPUs that the driver counts, in the file's order, and the place of one of them; -1 beyond the last. */
int counted(void);
int counted_at(unsigned place);
int gpu_count(void);

/* Architectures, as nvmlDeviceGetArchitecture numbers them: a GPU does not support the features of later ones. */
enum { AMPERE = 7, HOPPER = 9 };
int is_before(int index, int architecture);

/* Counts a call of nvmlInit (1) or nvmlShutdown (-1), or none (0). Returns how often the library was open before. */
int open_library(int change);

/* A GPU's handle, and the GPU of a handle; -1 for a pointer that is no handle. */
void *handle_of(int index);
int index_of(void *device);

/* What a call about a GPU, or about one of its MIG instances, returns before it does anything else; hangs where the
 * file says so. `index` is the GPU's. */
int enter(void *device, const char *call, int *index);

/* The same of a call about no GPU. */
int enter_node(const char *call);

/* The oldest event after number `after` into `out`: 1, or 0 where there is none; and the newest number there is. */
int next_event(unsigned long after, event_t *out);
unsigned long newest_event(void);

/* The place of a MIG instance's handle among those of its GPU, and the GPU's index; 0 for any other handle. */
int mig_handle(void *device, int *index, int *number);

/* The handle of the MIG instance of a GPU that has this UUID, or NULL. */
void *mig_by_uuid(int index, const char *uuid);

#define ENTER(call) int index; int code = enter(device, #call, &index); if (code) return code

#define NUMBER(call, type, key, otherwise) \
    int call(void *device, type *out) { ENTER(call); *out = (type)number_of(index, key, otherwise); return SUCCESS; }

#endif
