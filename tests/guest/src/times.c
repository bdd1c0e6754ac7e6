/* Clocks, sleeping, timers, resource usage, time zones. */
#include "guest.h"
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/utsname.h>

CASE(clocks) {
    static const clockid_t ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID,
        CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME};
    for (unsigned i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct timespec a, b, resolution;
        CHECK(clock_gettime(ids[i], &a) == 0 && clock_gettime(ids[i], &b) == 0 && clock_getres(ids[i], &resolution) == 0);
        CHECK(b.tv_sec > a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec >= a.tv_nsec));
        CHECK(a.tv_nsec >= 0 && a.tv_nsec < 1000000000);
    }
    struct timespec t;
    CHECK_ERRNO(syscall(SYS_clock_gettime, 99, &t), EINVAL);
    CHECK_ERRNO(syscall(SYS_clock_gettime, 0, (void *)8), EFAULT);
    struct timeval tv;
    CHECK(gettimeofday(&tv, NULL) == 0 && labs(tv.tv_sec - time(NULL)) <= 1 && time(NULL) > 1700000000);
    puts("done");
}

CASE(monotonic_never_goes_back) {
    struct timespec last = {0, 0}, t;
    int back = 0;
    for (int i = 0; i < 100000; i++) {
        clock_gettime(CLOCK_MONOTONIC, &t);
        back += t.tv_sec < last.tv_sec || (t.tv_sec == last.tv_sec && t.tv_nsec < last.tv_nsec);
        last = t;
    }
    printf("went back %d times\n", back);
}

CASE(sleeping) {
    int64_t start = now_ms();
    sleep_ms(30);
    int64_t took = now_ms() - start;
    CHECK(took >= 30 && took < 1000);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 20000000;
    if (until.tv_nsec >= 1000000000)
        until.tv_sec++, until.tv_nsec -= 1000000000;
    start = now_ms();
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == 0 && now_ms() - start >= 19);
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == 0);
    struct timespec bad = {0, 1000000000};
    CHECK_ERRNO(nanosleep(&bad, NULL), EINVAL);
    bad.tv_sec = -1, bad.tv_nsec = 0;
    CHECK_ERRNO(nanosleep(&bad, NULL), EINVAL);
    CHECK_ERRNO(syscall(SYS_nanosleep, (void *)8, NULL), EFAULT);
    puts("done");
}

static volatile int expired;
static void on_timer(int signal, siginfo_t *info, void *context) {
    expired += info->si_code == SI_TIMER ? info->si_value.sival_int : 1000;
    (void)signal, (void)context;
}
CASE(posix_timers) {
    struct sigaction a = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &a, NULL);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 7};
    timer_t timer;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    struct itimerspec t = {{0, 0}, {0, 10000000}};
    CHECK(timer_settime(timer, 0, &t, NULL) == 0);
    for (int i = 0; i < 200 && !expired; i++)
        sleep_ms(5);
    CHECK(timer_gettime(timer, &t) == 0 && t.it_value.tv_nsec == 0);
    CHECK(timer_delete(timer) == 0);
    printf("%d\n", expired);
}

CASE(usage) {
    struct rusage self, children;
    volatile double x = 1;
    int64_t start = now_ms();
    while (now_ms() - start < 60)
        x = x * 1.0000001;
    CHECK(getrusage(RUSAGE_SELF, &self) == 0 && self.ru_utime.tv_sec * 1000 + self.ru_utime.tv_usec / 1000 >= 10);
    pid_t child = fork_clean();
    if (child == 0) {
        start = now_ms();
        while (now_ms() - start < 60)
            x = x * 1.0000001;
        _exit(0);
    }
    report("child", child);
    CHECK(getrusage(RUSAGE_CHILDREN, &children) == 0);
    CHECK(children.ru_utime.tv_sec * 1000 + children.ru_utime.tv_usec / 1000 >= 10);
    CHECK_ERRNO(getrusage(99, &self), EINVAL);
    struct tms t;
    CHECK(times(&t) != (clock_t)-1 && t.tms_cutime >= 1);
    CHECK(clock() > 0);
}

CASE(calendar) {
    time_t t = 1234567890;
    struct tm *tm = gmtime(&t);
    char text[60];
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %a %j", tm);
    puts(text);
    printf("%ld\n", (long)timegm(tm));
    setenv("TZ", "Europe/Berlin", 1);
    tzset();
    tm = localtime(&t);
    printf("%02d:%02d\n", tm->tm_hour, tm->tm_min);
}

CASE(system_information) {
    struct sysinfo info;
    CHECK(sysinfo(&info) == 0 && info.totalram >= info.freeram && info.freeram > 0 && info.procs > 0);
    struct utsname name;
    CHECK(uname(&name) == 0);
    printf("%s %s\n", name.sysname, name.machine);
    CHECK(sysconf(_SC_NPROCESSORS_ONLN) >= 1 && sysconf(_SC_PAGESIZE) == 4096 && sysconf(_SC_CLK_TCK) == 100);
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= 256);
    limit.rlim_cur = 100;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 100);
    limit.rlim_cur = limit.rlim_max + 1;
    if (limit.rlim_max != RLIM_INFINITY)
        CHECK_ERRNO(setrlimit(RLIMIT_NOFILE, &limit), EINVAL);
    CHECK_ERRNO(getrlimit(99, &limit), EINVAL);
}

CASE(floating_point) {
    double sum = 0;
    for (int i = 1; i < 2000; i++)
        sum += i % 7 / (i * 3.7) - 1e300 * i / 1e301 / (i + 0.1);
    printf("%.15g\n", sum);
    volatile float f = 1.0f / 3;
    long double l = 1.0L / 3;
    printf("%.9g %.20Lg\n", f, l);
}
