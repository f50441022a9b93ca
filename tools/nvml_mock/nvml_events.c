/* Events: those of the state file with a number above the highest one at the registration of their GPU. */
#include <unistd.h>

#include "nvml_mock.h"

#define STEP_MILLISECONDS 20
#define NO_INSTANCE 0xFFFFFFFFu

typedef struct { void *device; uint64_t type, data; uint32_t gi, ci; } event_data_t;

static unsigned long delivered;
static uint64_t registered[MAX_GPUS];
static unsigned long since[MAX_GPUS];

NUMBER(nvmlDeviceGetSupportedEventTypes, uint64_t, "events", 0xff8f)

int nvmlEventSetCreate(void **out)
{
    static int set;
    *out = &set;
    return enter_node("nvmlEventSetCreate");
}

int nvmlEventSetFree(void *set)
{
    (void)set;
    return open_library(0) ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceRegisterEvents(void *device, uint64_t types, void *set)
{
    ENTER(nvmlDeviceRegisterEvents);
    (void)set;
    if (types & ~(uint64_t)number_of(index, "events", 0xff8f)) return NOT_SUPPORTED;
    registered[index] = types;
    since[index] = newest_event();
    return SUCCESS;
}

/* A failed wait belongs to no GPU: it counts from the first registration. */
static unsigned long since_all(void)
{
    unsigned long least = (unsigned long)-1;
    for (int i = 0; i < MAX_GPUS; i++)
        if (registered[i] && since[i] < least) least = since[i];
    return least;
}

int nvmlEventSetWait_v2(void *set, event_data_t *out, unsigned milliseconds)
{
    event_t event;
    (void)set;
    for (unsigned waited = 0; waited < milliseconds; waited += STEP_MILLISECONDS) {
        int code = enter_node("nvmlEventSetWait_v2");
        if (code) return code;
        while (next_event(delivered, &event)) {
            delivered = event.number;
            if (event.code ? event.number <= since_all() : !(registered[event.gpu] & event.type) || event.number <= since[event.gpu])
                continue;
            if (event.code) return event.code;
            *out = (event_data_t){handle_of(event.gpu), event.type, event.data, (uint32_t)event.instance, NO_INSTANCE};
            return SUCCESS;
        }
        usleep(STEP_MILLISECONDS * 1000);
    }
    return TIMEOUT;
}
