/* A libnvidia-ml.so.1 whose GPU is described by environment variables: drives pynvml without a driver. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct { unsigned pid; unsigned long long used; unsigned gpu, compute; } process_t;
typedef struct { unsigned long long reference, violation; } violation_t;
typedef struct { unsigned version, sensor; int temperature; } temperature_t;

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? atol(text) : otherwise;
}
static int code(const char *name) { return (int)number(name, 0); }
static unsigned long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (unsigned long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int nvmlInitWithFlags(unsigned flags) { return code("FAKE_INIT"); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 3 ? "Not Supported" : code == 9 ? "Driver Not Loaded" : "error"; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = (unsigned)number("FAKE_COUNT", 1); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = (void *)(size_t)(i + 1); return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **h) {
    *h = (void *)1;
    return strcmp(uuid, "GPU-known") ? 6 : 0;
}
int nvmlDeviceGetName(void *d, char *out, unsigned size) { strncpy(out, "Fake H100", size); return 0; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { strncpy(out, "580.1", size); return 0; }
int nvmlDeviceGetMigMode(void *d, unsigned *current, unsigned *pending) {
    *current = *pending = (unsigned)number("FAKE_MIG", 0);
    return code("FAKE_MIG_CODE");
}
int nvmlDeviceGetTotalEnergyConsumption(void *d, unsigned long long *mj) {
    unsigned long long step = 100;
    *mj = now_ms() / step * step * (unsigned long long)number("FAKE_WATTS", 200);
    return code("FAKE_ENERGY");
}
int nvmlDeviceGetClockInfo(void *d, int type, unsigned *mhz) { *mhz = 1980; return code("FAKE_CLOCK"); }
int nvmlDeviceGetMaxClockInfo(void *d, int type, unsigned *mhz) { *mhz = 1980; return 0; }
int nvmlDeviceGetTemperature(void *d, int sensor, unsigned *c) { *c = 41; return 0; }
int nvmlDeviceGetEnforcedPowerLimit(void *d, unsigned *mw) { *mw = 700000; return 0; }
#ifndef OLD_DRIVER
int nvmlDeviceGetCurrentClocksEventReasons(void *d, unsigned long long *r) {
    *r = (unsigned long long)number("FAKE_REASONS", 1);
    return 0;
}
#else
int nvmlDeviceGetCurrentClocksThrottleReasons(void *d, unsigned long long *r) {
    *r = (unsigned long long)number("FAKE_REASONS", 1);
    return 0;
}
#endif
int nvmlDeviceGetViolationStatus(void *d, int policy, violation_t *v) {
    /* the GPU has been held back by its power policy for this share (in %) of all time */
    v->reference = now_ms() * 1000;
    v->violation = policy == 0 ? now_ms() * 1000000 / 100 * (unsigned long long)number("FAKE_HELD", 0) : 0;
    return policy == 5 ? 3 : 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *count, process_t *out) {
    process_t all[3];
    unsigned n = 0;
    if (number("FAKE_LIST_ME", 1)) all[n++] = (process_t){(unsigned)getpid(), 512ULL << 20, 0, 0};
    if (number("FAKE_OTHER", 0)) all[n++] = (process_t){(unsigned)number("FAKE_OTHER", 0), 1ULL << 30, 0, 0};
    if (number("FAKE_SECOND", 0)) all[n++] = (process_t){(unsigned)number("FAKE_SECOND", 0), 1ULL << 30, 0, 0};
    if (!n) { *count = 0; return 0; }
    if (!out) { *count = n; return 7; }
    memcpy(out, all, n * sizeof *out);
    *count = n;
    return 0;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *d, unsigned *count, process_t *out) { *count = 0; return 0; }
