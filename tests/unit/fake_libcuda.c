/* In the shape of NVIDIA's libcuda.so.1, as far as asking for its version goes. */
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
