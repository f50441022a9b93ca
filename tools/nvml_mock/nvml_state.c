/* The state file and the faults file, read when they change, and the delays and hangs that they put before an answer. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "nvml_mock.h"

#define MAX_FACTS 320
#define NODE MAX_GPUS
#define STEP_MICROSECONDS 20000

typedef struct { char key[64]; char text[96]; } fact_t;
typedef struct { int count; fact_t facts[MAX_FACTS]; } owner_t;
typedef struct { struct timespec changed; ino_t number; } version_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static owner_t owners[MAX_GPUS + 1];
static int gpus;
static event_t events[MAX_EVENTS];
static int event_count, opened;

static void put(owner_t *owner, const char *key, const char *text)
{
    int place = 0;
    while (place < owner->count && strcmp(owner->facts[place].key, key)) place++;
    if (place == MAX_FACTS) return;
    if (place == owner->count) owner->count++;
    snprintf(owner->facts[place].key, sizeof owner->facts[0].key, "%s", key);
    snprintf(owner->facts[place].text, sizeof owner->facts[0].text, "%s", text);
}

static void take(const char *line)
{
    int index;
    event_t event = {.instance = 0xFFFFFFFFu};
    char key[64], text[96];
    if (sscanf(line, "gpu %d %63s %95[^\n]", &index, key, text) == 3 && index >= 0 && index < MAX_GPUS) {
        if (index >= gpus) gpus = index + 1;
        put(&owners[index], key, text);
    } else if (sscanf(line, "node %63s %95[^\n]", key, text) == 2)
        put(&owners[NODE], key, text);
    else if (event_count < MAX_EVENTS
             && (sscanf(line, "event %lu %d %li %lu %lu", &event.number, &event.gpu, (long *)&event.type, &event.data,
                        &event.instance) >= 3
                 || sscanf(line, "waitfails %lu %d", &event.number, &event.code) == 2)
             && event.gpu >= 0 && event.gpu < MAX_GPUS)
        events[event_count++] = event;
}

static void read_file(const char *path)
{
    char line[256];
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return;
    while (fgets(line, sizeof line, file)) take(line);
    fclose(file);
}

static int changed(const char *path, version_t *seen)
{
    struct stat status;
    version_t now = {{0, 0}, 0};
    if (path && !stat(path, &status)) now = (version_t){status.st_mtim, status.st_ino};
    int differs = now.number != seen->number || now.changed.tv_sec != seen->changed.tv_sec
        || now.changed.tv_nsec != seen->changed.tv_nsec;
    *seen = now;
    return differs;
}

static void refresh(void)
{
    static version_t seen[2];
    const char *state = getenv("NVML_MOCK_STATE"), *faults = getenv("NVML_MOCK_FAULTS");
    /* Both are checked: a change of the first must not hide one of the second. */
    if (!(changed(state, &seen[0]) | changed(faults, &seen[1]))) return;
    memset(owners, 0, sizeof owners);
    gpus = event_count = 0;
    read_file(state);
    read_file(faults);
}

static const char *fact(int owner, const char *key)
{
    for (int i = 0; i < owners[owner].count; i++)
        if (!strcmp(owners[owner].facts[i].key, key)) return owners[owner].facts[i].text;
    return NULL;
}

static long number(int owner, const char *key, long otherwise)
{
    const char *text = fact(owner, key);
    return text ? strtol(text, NULL, 0) : otherwise;
}

const char *text_of(int index, const char *key) { return fact(index, key); }
long number_of(int index, const char *key, long otherwise) { return number(index, key, otherwise); }
const char *node_text(const char *key) { return fact(NODE, key); }
long node_number(const char *key, long otherwise) { return number(NODE, key, otherwise); }

int open_library(int change)
{
    pthread_mutex_lock(&lock);
    int before = opened;
    opened += before || change > 0 ? change : 0;
    pthread_mutex_unlock(&lock);
    return before;
}

void *handle_of(int index) { return &owners[index]; }
int index_of(void *device)
{
    uintptr_t place = (uintptr_t)device, first = (uintptr_t)owners;
    return place < first || place >= (uintptr_t)&owners[MAX_GPUS] ? -1 : (int)((place - first) / sizeof *owners);
}
int gpu_count(void) { return gpus; }

int counted(void)
{
    int count = 0;
    for (int i = 0; i < gpus; i++) count += !number(i, "gone", 0);
    return count;
}

int counted_at(unsigned place)
{
    for (int i = 0; i < gpus; i++)
        if (!number(i, "gone", 0) && !place--) return i;
    return -1;
}

static void trace(const char *call, int index)
{
    const char *path = getenv("NVML_MOCK_TRACE");
    char line[128];
    if (!path) return;
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT, 0644);
    if (file < 0) return;
    int length = snprintf(line, sizeof line, "%d %s %d\n", (int)getpid(), call, index);
    /* A tracer that is full or gone must not change what the library answers. */
    if (write(file, line, (size_t)length) < 0) perror("NVML_MOCK_TRACE");
    close(file);
}

/* Waits out a hang and a delay; what the call returns. `general` is whether "hang" and "return" count, or only those
 * of the call. */
static int answer(int owner, const char *call, int general)
{
    struct timespec now;
    char hang[96], code[96], ends[96];
    snprintf(hang, sizeof hang, "hang.%s", call);
    snprintf(code, sizeof code, "return.%s", call);
    snprintf(ends, sizeof ends, "abort.%s", call);
    for (int delayed = 0;; delayed = 1) {
        pthread_mutex_lock(&lock);
        refresh();
        clock_gettime(CLOCK_BOOTTIME, &now);
        long hangs = number(owner, hang, general ? number(owner, "hang", 0) : 0);
        hangs |= general && number(owner, "hanguntil", 0) > now.tv_sec * 1000 + now.tv_nsec / 1000000;
        long slow = delayed || !general ? 0 : number(owner, "slow", 0);
        int result = (int)number(owner, code, general ? number(owner, "return", number(owner, "gone", 0) ? GPU_IS_LOST : 0) : 0);
        if (number(owner, ends, general ? number(owner, "abort", 0) : 0)) _exit(134);
        pthread_mutex_unlock(&lock);
        if (!hangs && !slow) return result;
        usleep(hangs ? STEP_MICROSECONDS : (useconds_t)slow * 1000);
    }
}

int enter(void *device, const char *call, int *index)
{
    int number;
    if (!open_library(0)) return UNINITIALIZED;
    if (!mig_handle(device, index, &number)) {
        *index = index_of(device);
        if (*index < 0 || *index >= gpus || device != handle_of(*index)) return INVALID_ARGUMENT;
    }
    trace(call, *index);
    return answer(*index, call, 1);
}

int enter_node(const char *call) { return open_library(0) ? answer(NODE, call, 0) : UNINITIALIZED; }

int next_event(unsigned long after, event_t *out)
{
    int found = 0;
    pthread_mutex_lock(&lock);
    refresh();
    for (int i = 0; i < event_count && !found; i++)
        if (events[i].number > after) {
            *out = events[i];
            found = 1;
        }
    pthread_mutex_unlock(&lock);
    return found;
}

unsigned long newest_event(void)
{
    unsigned long newest = 0;
    pthread_mutex_lock(&lock);
    refresh();
    for (int i = 0; i < event_count; i++)
        if (events[i].number > newest) newest = events[i].number;
    pthread_mutex_unlock(&lock);
    return newest;
}
