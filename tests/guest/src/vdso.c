/* The vDSO: the clocks without a system call, its symbols, its unwind tables, PR_SET_TSC. */
#include "guest.h"
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <unwind.h>

static int64_t ns_of(struct timespec t) { return t.tv_sec * 1000000000L + t.tv_nsec; }

static int64_t by_syscall(clockid_t clock) {
    struct timespec t = {-1, -1};
    CHECK(syscall(SYS_clock_gettime, clock, &t) == 0);
    return ns_of(t);
}

static int64_t by_vdso(clockid_t clock) {
    struct timespec t = {-1, -1};
    CHECK(clock_gettime(clock, &t) == 0);
    CHECK(t.tv_nsec >= 0 && t.tv_nsec < 1000000000L);
    return ns_of(t);
}

/* Both ways to a clock tell one time, whichever is read first. */
CASE(clocks) {
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID,
                                       CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME, CLOCK_REALTIME_ALARM,
                                       CLOCK_BOOTTIME_ALARM, CLOCK_TAI};
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        if (syscall(SYS_clock_gettime, clocks[i], &(struct timespec){0}) != 0) {
            continue; /* a machine without an RTC has no alarm clocks */
        }
        for (int n = 0; n < 1000; n++) {
            int64_t a = by_syscall(clocks[i]), b = by_vdso(clocks[i]), c = by_syscall(clocks[i]);
            CHECK(a <= b);
            CHECK(b <= c);
        }
    }
}

CASE(coarse) {
    static const clockid_t pairs[][2] = {{CLOCK_REALTIME_COARSE, CLOCK_REALTIME},
                                         {CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC}};
    for (int i = 0; i < 2; i++) {
        int64_t before = by_vdso(pairs[i][1]) - 20000000;
        int64_t coarse = by_vdso(pairs[i][0]);
        CHECK(before <= coarse);
        CHECK(coarse <= by_vdso(pairs[i][1]));
        struct timespec a = {0}, b = {0};
        CHECK(clock_getres(pairs[i][0], &a) == 0 && a.tv_sec == 0 && a.tv_nsec >= 1000000);
        CHECK(syscall(SYS_clock_getres, pairs[i][0], &b) == 0 && ns_of(a) == ns_of(b));
    }
}

CASE(others) {
    struct timespec a, b;
    struct timeval tv;
    struct timezone tz = {7, 7};
    unsigned cpu = ~0u, node = ~0u;
    for (int n = 0; n < 1000; n++) {
        int64_t before = by_vdso(CLOCK_REALTIME) / 1000;
        CHECK(gettimeofday(&tv, NULL) == 0);
        int64_t now = tv.tv_sec * 1000000L + tv.tv_usec;
        CHECK(tv.tv_usec >= 0 && tv.tv_usec < 1000000);
        CHECK(before <= now && now <= by_vdso(CLOCK_REALTIME) / 1000);
    }
    CHECK(gettimeofday(NULL, NULL) == 0);
    CHECK(syscall(SYS_gettimeofday, &tv, &tz) == 0 && tz.tz_dsttime == 0);
    time_t stored = 0, told = time(&stored), real = by_vdso(CLOCK_REALTIME) / 1000000000;
    CHECK(told == stored && told <= real && real <= told + 1);
    CHECK(clock_getres(CLOCK_MONOTONIC, &a) == 0 && a.tv_sec == 0 && a.tv_nsec == 1);
    CHECK(clock_getres(CLOCK_MONOTONIC, NULL) == 0);
    CHECK(clock_getres(CLOCK_THREAD_CPUTIME_ID, &b) == 0 && ns_of(b) == 1);
    CHECK(getcpu(&cpu, &node) == 0 && cpu < 4096 && node < 64);
    CHECK_ERRNO(clock_gettime(10, &a), EINVAL);
    CHECK_ERRNO(clock_gettime(12, &a), EINVAL);
    CHECK_ERRNO(clock_gettime(1 << 20, &a), EINVAL);
    CHECK_ERRNO(clock_getres(12, &a), EINVAL);
    CHECK_ERRNO(clock_getres(INT_MAX, NULL), EINVAL);
}

/* No thread ever reads an earlier time than another has told it. */
static _Atomic int64_t latest;
static void *follow(void *steps) {
    for (long n = 0; n < (long)steps; n++) {
        int64_t told = atomic_load(&latest), now = by_vdso(CLOCK_MONOTONIC);
        if (now < told) {
            CHECK(!"time went back");
            break;
        }
        while (told < now && !atomic_compare_exchange_weak(&latest, &told, now))
            ;
    }
    return NULL;
}
CASE(threads) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_create(&threads[i], NULL, follow, (void *)100000L) == 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
}

/* The image as a program's own parser finds it (Go's runtime, musl): by DT_HASH and by version. */
struct image {
    const char *base, *strings;
    const ElfW(Sym) *symbols;
    const uint32_t *hash;
    const uint16_t *versions;
    const ElfW(Verdef) *definitions;
};
static struct image parse(void) {
    struct image v = {.base = (const char *)getauxval(AT_SYSINFO_EHDR)};
    const ElfW(Ehdr) *head = (const void *)v.base;
    CHECK(head && memcmp(head->e_ident, ELFMAG, SELFMAG) == 0 && head->e_type == ET_DYN);
    const ElfW(Phdr) *p = (const void *)(v.base + head->e_phoff);
    const char *bias = NULL;
    const ElfW(Dyn) *dynamic = NULL;
    for (int i = 0; i < head->e_phnum; i++) {
        if (p[i].p_type == PT_LOAD) {
            bias = v.base + p[i].p_offset - p[i].p_vaddr;
        } else if (p[i].p_type == PT_DYNAMIC) {
            dynamic = (const void *)(v.base + p[i].p_offset);
        }
    }
    for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
        const char *at = bias + dynamic->d_un.d_ptr;
        switch (dynamic->d_tag) {
        case DT_STRTAB: v.strings = at; break;
        case DT_SYMTAB: v.symbols = (const void *)at; break;
        case DT_HASH: v.hash = (const void *)at; break;
        case DT_VERSYM: v.versions = (const void *)at; break;
        case DT_VERDEF: v.definitions = (const void *)at; break;
        }
    }
    return v;
}
static const void *symbol(const struct image *v, const char *name) {
    for (uint32_t i = 0; v->hash && i < v->hash[1]; i++) {
        const ElfW(Sym) *s = &v->symbols[i];
        if (s->st_shndx == SHN_UNDEF || strcmp(v->strings + s->st_name, name) != 0) {
            continue;
        }
        const ElfW(Verdef) *d = v->definitions;
        while (d->vd_ndx != (v->versions[i] & 0x7fff)) {
            d = (const void *)((const char *)d + d->vd_next);
        }
        const ElfW(Verdaux) *a = (const void *)((const char *)d + d->vd_aux);
        CHECK(strcmp(v->strings + a->vda_name, "LINUX_2.6") == 0);
        return v->base + s->st_value;
    }
    return NULL;
}
CASE(symbols) {
    static const char *const names[] = {"__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time",
                                        "__vdso_clock_getres", "__vdso_getcpu"};
    struct image v = parse();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const void *f = symbol(&v, names[i]);
        printf("%s: %s\n", names[i], f ? "there" : "missing");
    }
    int (*gettime)(clockid_t, struct timespec *) = symbol(&v, "__vdso_clock_gettime");
    struct timespec t = {0};
    CHECK(gettime && gettime(CLOCK_MONOTONIC, &t) == 0 && ns_of(t) > 0);
    CHECK(gettime && gettime(-1, &t) <= 0);
    CHECK(gettime && gettime(12, &t) == -EINVAL);
}

static int seen(struct dl_phdr_info *info, size_t size, void *found) {
    if (strncmp(info->dlpi_name, "linux-vdso", 10) == 0) {
        for (int i = 0; i < info->dlpi_phnum; i++) {
            *(int *)found |= info->dlpi_phdr[i].p_type == PT_GNU_EH_FRAME;
        }
    }
    return 0;
}
CASE(maps) {
    char line[256];
    int code = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && fgets(line, sizeof line, f)) {
        unsigned long start, end;
        if (strstr(line, "[vdso]") && sscanf(line, "%lx-%lx r-xp 00000000 00:00 0 ", &start, &end) == 2) {
            code = start == getauxval(AT_SYSINFO_EHDR) && end - start >= 4096;
        }
    }
    fclose(f);
    int unwinds = 0;
    dl_iterate_phdr(seen, &unwinds);
    printf("mapped %d, unwind table %d\n", code, unwinds);
}

/* A fault inside the vDSO unwinds to the caller. */
static _Unwind_Reason_Code frame(struct _Unwind_Context *c, void *found) {
    const char *start = (const char *)(uintptr_t)*(uintptr_t *)found;
    if ((const char *)_Unwind_GetIP(c) >= start && (const char *)_Unwind_GetIP(c) < start + 512) {
        *(uintptr_t *)found = 0;
        return _URC_END_OF_STACK;
    }
    return _URC_NO_REASON;
}
static uintptr_t caller;
static sigjmp_buf back;
static void on_fault(int signal) {
    _Unwind_Backtrace(frame, &caller);
    siglongjmp(back, 1);
}
__attribute__((noinline)) static int call_with_bad_pointer(void) {
    int got = clock_gettime(CLOCK_MONOTONIC, (void *)8);
    asm volatile("" ::: "memory");
    return got;
}
CASE(unwind) {
    signal(SIGSEGV, on_fault);
    caller = (uintptr_t)call_with_bad_pointer;
    if (sigsetjmp(back, 1) == 0) {
        int got = call_with_bad_pointer();
        printf("returned %d\n", got);
    }
    printf("unwound to the caller: %d\n", caller == 0);
}

static volatile sig_atomic_t faults;
static void on_tsc(int signal, siginfo_t *info, void *context) {
    faults++;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}
static void *read_counter(void *unused) {
    unsigned low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return NULL;
}
CASE(tsc) {
    int mode = 0;
    struct sigaction action = {.sa_sigaction = on_tsc, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    read_counter(NULL);
    CHECK(faults == 0);
    CHECK(prctl(PR_GET_TSC, &mode) == 0 && mode == PR_TSC_ENABLE);
    CHECK(prctl(PR_SET_TSC, PR_TSC_SIGSEGV) == 0);
    CHECK(prctl(PR_GET_TSC, &mode) == 0 && mode == PR_TSC_SIGSEGV);
    read_counter(NULL);
    CHECK(faults == 1);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, read_counter, NULL) == 0);
    pthread_join(thread, NULL);
    CHECK(faults == 2);
    CHECK(prctl(PR_SET_TSC, PR_TSC_ENABLE) == 0);
    read_counter(NULL);
    CHECK(faults == 2);
    CHECK_ERRNO(prctl(PR_SET_TSC, 3), EINVAL);
}
