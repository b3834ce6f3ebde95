/* Preloaded into a storm's processes: the clock that Python sees jumps. See tests/wrong_clock.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static int (*real)(clockid_t, struct timespec *);
static const volatile long *seconds;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("STORM_CLOCK");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    void *found = file < 0 ? MAP_FAILED : mmap(0, sizeof *seconds, PROT_READ, MAP_SHARED, file, 0);
    seconds = found == MAP_FAILED ? 0 : found;
    real = dlsym(RTLD_NEXT, "clock_gettime");
}

/* Libraries like gRPC wait for moments of the real clock, which the kernel knows: they are let alone. */
static int from_python(const void *caller) {
    Dl_info info;
    return dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, "python") &&
           !strstr(info.dli_fname, "site-packages");
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && clock == CLOCK_REALTIME && seconds && *seconds && from_python(__builtin_return_address(0)))
        now->tv_sec += *seconds;
    return failed;
}
