/* Clocks, sleeping, timers, resource usage, time zones. */
#include "guest.h"
#include <pthread.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/timex.h>
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

CASE(discipline_of_the_clock) {
    struct timex t = {.modes = 0};
    int state = adjtimex(&t);
    CHECK(state >= 0 && labs(t.time.tv_sec - time(NULL)) <= 1 && t.precision >= 1 && t.tick == 10000);
    CHECK((state == TIME_ERROR) == !!(t.status & STA_UNSYNC));
    struct timeval left = {9, 9};
    CHECK(adjtime(NULL, &left) == 0 && left.tv_sec == 0 && left.tv_usec == 0);
    CHECK(syscall(SYS_clock_adjtime, CLOCK_REALTIME, &t) == state);
    CHECK_ERRNO(syscall(SYS_clock_adjtime, CLOCK_MONOTONIC, &t), EOPNOTSUPP);
    CHECK_ERRNO(syscall(SYS_clock_adjtime, 99, &t), EINVAL);
    CHECK_ERRNO(syscall(SYS_clock_adjtime, 99, NULL), EFAULT);
    CHECK_ERRNO(adjtimex((void *)8), EFAULT);
    if (setresuid(65534, 65534, 65534) == 0) {
        t.modes = ADJ_FREQUENCY;
        CHECK_ERRNO(adjtimex(&t), EPERM);
    }
    return 0;
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

static timer_t new_timer(clockid_t clock, int how, int sig, int value) {
    struct sigevent event = {.sigev_notify = how, .sigev_signo = sig, .sigev_value.sival_int = value};
#ifdef sigev_notify_thread_id
    event.sigev_notify_thread_id = gettid();
#else
    event._sigev_un._tid = gettid();
#endif
    timer_t timer;
    CHECK(timer_create(clock, &event, &timer) == 0);
    return timer;
}
static void start_timer(timer_t timer, long ms, long every_ms) {
    struct itimerspec t = {{every_ms / 1000, every_ms % 1000 * 1000000}, {ms / 1000, ms % 1000 * 1000000}};
    CHECK(timer_settime(timer, 0, &t, NULL) == 0);
}
static void burn(int ms) {
    struct timespec a, b;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    do
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    while ((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < ms);
}
static sigset_t blocked(int sig) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return set;
}
static void show(const char *what, sigset_t *set, int ms) {
    struct timespec wait = {ms / 1000, ms % 1000 * 1000000};
    siginfo_t info;
    int sig = sigtimedwait(set, &info, &wait);
    if (sig < 0)
        printf("%s: %s\n", what, strerrorname_of(errno));
    else
        printf("%s: %s code %d value %d overrun %s\n", what, sig == SIGRTMIN ? "SIGRTMIN" : strsignal(sig), info.si_code,
            info.si_value.sival_int, info.si_overrun ? "some" : "none");
}

CASE(posix_timer_kinds) {
    sigset_t set = blocked(SIGRTMIN);
    timer_t process = new_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN, 1);
    timer_t thread = new_timer(CLOCK_REALTIME, SIGEV_THREAD_ID, SIGRTMIN, 2);
    start_timer(process, 5, 0);
    show("process", &set, 2000);
    start_timer(thread, 5, 0);
    show("thread", &set, 2000);
    show("once only", &set, 20);
    start_timer(process, 5, 0), start_timer(process, 0, 0);
    show("disarmed", &set, 30);
    start_timer(process, 1, 1);
    sleep_ms(60);
    show("blocked for long", &set, 2000);
    CHECK(timer_getoverrun(process) > 20 && timer_getoverrun(process) < 2000);
    struct itimerspec t;
    CHECK(timer_gettime(process, &t) == 0 && t.it_interval.tv_nsec == 1000000 && t.it_value.tv_nsec <= 1000000 && t.it_value.tv_nsec > 0);
    start_timer(process, 0, 0);
    while (sigtimedwait(&set, NULL, &(struct timespec){0, 0}) > 0)
        ;
    /* Absolute times, also in the past. */
    clock_gettime(CLOCK_REALTIME, &t.it_value);
    t.it_interval = (struct timespec){0, 0};
    CHECK(timer_settime(thread, TIMER_ABSTIME, &t, NULL) == 0);
    show("past", &set, 2000);
    t.it_value.tv_sec += 1000;
    CHECK(timer_settime(thread, TIMER_ABSTIME, &t, NULL) == 0);
    struct itimerspec old;
    CHECK(timer_settime(thread, 0, &(struct itimerspec){{0, 0}, {0, 0}}, &old) == 0 && old.it_value.tv_sec >= 990 && old.it_value.tv_sec <= 1000);
    /* Nobody is told. */
    timer_t silent = new_timer(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0);
    start_timer(silent, 100000, 7);
    CHECK(timer_gettime(silent, &t) == 0 && t.it_value.tv_sec >= 98 && t.it_interval.tv_nsec == 7000000);
    start_timer(silent, 1, 0);
    sleep_ms(5);
    CHECK(timer_gettime(silent, &t) == 0 && t.it_value.tv_nsec == 0 && timer_getoverrun(silent) == 0);
    CHECK(timer_delete(silent) == 0 && timer_delete(thread) == 0);
    CHECK_ERRNO(syscall(SYS_timer_delete, silent), EINVAL);
    CHECK_ERRNO(syscall(SYS_timer_settime, silent, 0, &t, NULL), EINVAL);
    CHECK_ERRNO(syscall(SYS_timer_gettime, silent, &t), EINVAL);
    CHECK_ERRNO(syscall(SYS_timer_getoverrun, silent), EINVAL);
    CHECK_ERRNO(timer_settime(process, 0, &(struct itimerspec){{0, 0}, {0, 1000000000}}, NULL), EINVAL);
    CHECK_ERRNO(timer_settime(process, 0, NULL, NULL), EINVAL);
    pid_t child = fork_clean();
    if (child == 0) {
        CHECK_ERRNO(syscall(SYS_timer_gettime, process, &t), EINVAL);
        _exit(guest_failures);
    }
    report("child has no timers", child);
}

CASE(posix_timer_errors) {
    int id;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 65};
    CHECK_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id), EINVAL);
    event.sigev_signo = 0;
    CHECK_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id), EINVAL);
    event.sigev_signo = SIGUSR1, event.sigev_notify = 99;
    CHECK_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id), EINVAL);
    event.sigev_notify = SIGEV_THREAD_ID, event._sigev_un._tid = getppid();
    CHECK_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id), EINVAL);
    CHECK_ERRNO(syscall(SYS_timer_create, 999, NULL, &id), EINVAL);
    CHECK_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC_RAW, NULL, &id), EOPNOTSUPP);
    CHECK_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC_COARSE, NULL, &id), EOPNOTSUPP);
    CHECK_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC, (void *)8, &id), EFAULT);
    CHECK_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, (void *)8), EFAULT);
    CHECK(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &id) == 0);
    sigset_t set = blocked(SIGALRM);
    struct itimerspec t = {{0, 0}, {0, 1000000}};
    CHECK(syscall(SYS_timer_settime, id, 0, &t, NULL) == 0);
    siginfo_t info;
    CHECK(sigtimedwait(&set, &info, &(struct timespec){2, 0}) == SIGALRM && info.si_value.sival_int == id);
    CHECK(syscall(SYS_timer_delete, id) == 0);
    puts("done");
}

CASE(posix_cpu_timers) {
    sigset_t set = blocked(SIGRTMIN);
    timer_t process = new_timer(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN, 1);
    timer_t thread = new_timer(CLOCK_THREAD_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN, 2);
    start_timer(process, 30, 0);
    sleep_ms(80);
    show("asleep", &set, 0);
    burn(100);
    show("burnt", &set, 0);
    start_timer(thread, 30, 10);
    burn(80);
    show("thread", &set, 0);
    CHECK(timer_getoverrun(thread) >= 1);
    struct itimerspec t;
    CHECK(timer_gettime(thread, &t) == 0 && t.it_value.tv_nsec > 0 && t.it_value.tv_nsec <= 10000000);
    puts("done");
}

static volatile int spinning = 1;
static void *spin(void *unused) {
    while (spinning)
        ;
    return unused;
}
CASE(cpu_clocks) {
    pthread_t other;
    clockid_t clock;
    struct timespec before, after, mine, start;
    CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start) == 0);
    CHECK(pthread_create(&other, NULL, spin, NULL) == 0 && pthread_getcpuclockid(other, &clock) == 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    int spun_ms = 0;
    for (int i = 0; i < 500 && spun_ms < 25; i++) {
        sleep_ms(10);
        CHECK(clock_gettime(clock, &after) == 0);
        spun_ms = after.tv_sec * 1000 + after.tv_nsec / 1000000;
    }
    CHECK(spun_ms >= 25);
    /* This thread slept: its own time hardly moved. */
    CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &mine) == 0);
    CHECK((mine.tv_sec - start.tv_sec) * 1000000000 + mine.tv_nsec - start.tv_nsec < 15000000);
    struct timespec wait = {0, 20000000};
    CHECK(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &wait, NULL) == 0);
    CHECK(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &wait, NULL) == EINVAL);
    spinning = 0;
    pthread_join(other, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    CHECK((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 >= 25);
    CHECK(clock_getcpuclockid(getpid(), &clock) == 0 && clock_gettime(clock, &mine) == 0);
    CHECK(clock_getcpuclockid(999999, &clock) == ESRCH);
    puts("done");
}

static volatile int virtual_ticks, prof_ticks, limit_ticks;
static void on_tick(int sig) {
    sig == SIGVTALRM ? virtual_ticks++ : sig == SIGPROF ? prof_ticks++ : limit_ticks++;
}
CASE(interval_timers_of_cpu_time) {
    signal(SIGVTALRM, on_tick), signal(SIGPROF, on_tick);
    struct itimerval t = {{0, 0}, {0, 30000}}, old;
    CHECK(setitimer(ITIMER_PROF, &t, NULL) == 0);
    sleep_ms(90);
    CHECK(prof_ticks == 0 && getitimer(ITIMER_PROF, &old) == 0 && old.it_value.tv_usec > 0 && old.it_value.tv_usec <= 40000);
    burn(60);
    CHECK(prof_ticks == 1 && getitimer(ITIMER_PROF, &old) == 0 && old.it_value.tv_usec == 0);
    t.it_interval.tv_usec = 10000;
    CHECK(setitimer(ITIMER_VIRTUAL, &t, NULL) == 0);
    volatile double x = 1;
    for (int64_t start = now_ms(); virtual_ticks < 4 && now_ms() - start < 5000;)
        x = x * 1.0000001;
    CHECK(virtual_ticks >= 4);
    pid_t child = fork_clean();
    if (child == 0) {
        CHECK(getitimer(ITIMER_VIRTUAL, &old) == 0 && old.it_value.tv_usec == 0 && old.it_interval.tv_usec == 0);
        _exit(guest_failures);
    }
    report("child", child);
    CHECK_ERRNO(setitimer(99, &t, NULL), EINVAL);
    CHECK_ERRNO(setitimer(ITIMER_PROF, (void *)8, NULL), EFAULT);
}

CASE(cpu_limit_warns_and_kills) {
    pid_t child = fork_clean();
    if (child == 0) {
        signal(SIGXCPU, on_tick);
        struct rlimit limit = {1, 3};
        CHECK(setrlimit(RLIMIT_CPU, &limit) == 0);
        while (limit_ticks < 2)
            ;
        CHECK(getrlimit(RLIMIT_CPU, &limit) == 0);
        printf("soft %d hard %d\n", (int)limit.rlim_cur, (int)limit.rlim_max);
        fflush(stdout);
        for (;;)
            ;
    }
    report("limited", child);
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
