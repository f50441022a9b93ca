/* What the files of the mock share: the facts of the state file, and how a call about a GPU begins. */
#ifndef NVML_MOCK_H
#define NVML_MOCK_H

#define MAX_GPUS 16

/* A fact of a GPU as the state file has it, NULL or `otherwise` where it has none. Hold no pointer over a call. */
const char *text_of(int index, const char *key);
long number_of(int index, const char *key, long otherwise);

/* What a call about a GPU, or about one of its MIG instances, returns before it does anything else; hangs where the
 * file says so. `index` is the GPU's. */
int enter(void *device, const char *call, int *index);

/* The place of a MIG instance's handle among those of its GPU, and the GPU's index; 0 for any other handle. */
int mig_handle(void *device, int *index, int *number);

#define ENTER(call) int index; int code = enter(device, #call, &index); if (code) return code

#endif
