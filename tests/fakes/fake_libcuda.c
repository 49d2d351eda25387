/* In the shape of NVIDIA's libcuda.so.1, as far as its version, the GPU's name and its memory are asked for. */
#include <stddef.h>
#include <string.h>
#ifndef VERSION
#define VERSION 12040
#endif
#ifndef ANSWER
#define ANSWER 0
#endif
int cuDriverGetVersion(int *version) {
  *version = VERSION;
  return ANSWER;
}

static int held, pushed;
int cuInit(unsigned flags) { return ANSWER; }
int cuDeviceGet(int *device, int number) { *device = 7 + number; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "Fake H100", size); return device == 7 ? 0 : 101; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &held; held++; return device == 7 ? 0 : 101; }
int cuDevicePrimaryCtxRelease_v2(int device) { held--; return 0; }
int cuCtxPushCurrent_v2(void *context) { pushed += context == (void *)&held; return 0; }
int cuCtxPopCurrent_v2(void **context) { *context = &held; pushed--; return 0; }
int cuMemGetInfo_v2(size_t *left, size_t *total) {
  *left = 3000;
  *total = 4096;
  return pushed == 1 && held == 1 ? 0 : 201; /* CUDA_ERROR_INVALID_CONTEXT */
}
