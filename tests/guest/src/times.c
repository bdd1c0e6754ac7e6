/* Clocks, sleeping, timers, resource usage, time zones. */
#include "guest.h"
#include <pthread.h>
#include <sys/random.h>
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

static volatile int told, overrun;
static void on_told(int signal, siginfo_t *info, void *context) {
    told++, overrun = info->si_overrun;
    (void)signal, (void)context;
}
static void handle_told(int sig) {
    struct sigaction a = {.sa_sigaction = on_told, .sa_flags = SA_SIGINFO};
    told = overrun = 0;
    sigaction(sig, &a, NULL);
}
static int is_pending(int sig) {
    sigset_t set;
    return sigpending(&set) == 0 && sigismember(&set, sig);
}
/* A timer whose signal is ignored waits until it is not. */
CASE(timers_of_ignored_signals) {
    struct itimerspec t;
    signal(SIGRTMIN, SIG_IGN), signal(SIGRTMIN + 1, SIG_IGN);
    timer_t often = new_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN, 1), once = new_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 2);
    start_timer(once, 1, 0), start_timer(often, 1, 1);
    sleep_ms(50);
    CHECK(timer_gettime(often, &t) == 0 && t.it_interval.tv_nsec == 1000000 && t.it_value.tv_sec == 0 && t.it_value.tv_nsec <= 1000000);
    CHECK(timer_gettime(once, &t) == 0 && t.it_value.tv_nsec == 0 && timer_getoverrun(often) == 0);
    handle_told(SIGRTMIN + 1);
    sleep_ms(5);
    printf("once: %d\n", told);
    t = (struct itimerspec){{1000, 0}, {0, 1000000}};
    CHECK(timer_settime(often, 0, &t, NULL) == 0);
    sleep_ms(10);
    handle_told(SIGRTMIN);
    printf("at once, though the next is far: %d, overrun %d\n", told, overrun);
    signal(SIGRTMIN, SIG_IGN);
    start_timer(often, 1, 1);
    sleep_ms(30);
    handle_told(SIGRTMIN);
    printf("with what was missed: %d\n", told >= 1 && timer_getoverrun(often) + told >= 20);
    /* Queued, then ignored. */
    sigset_t set = blocked(SIGRTMIN);
    start_timer(often, 1, 1);
    sleep_ms(10);
    printf("pending: %d", is_pending(SIGRTMIN));
    signal(SIGRTMIN, SIG_IGN);
    printf(", ignored: %d", is_pending(SIGRTMIN));
    handle_told(SIGRTMIN);
    printf(", handled: %d\n", is_pending(SIGRTMIN));
    start_timer(once, 0, 0), start_timer(often, 0, 0);
    show("set anew", &set, 5);
    /* Deleted while it waits. */
    signal(SIGRTMIN, SIG_IGN);
    timer_t third = new_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 3);
    signal(SIGRTMIN + 1, SIG_IGN);
    start_timer(third, 1, 1);
    sleep_ms(10);
    CHECK(timer_delete(third) == 0);
    handle_told(SIGRTMIN + 1);
    printf("deleted: %d\n", told);
    /* Set anew, and blocked, which counts for more than that it is ignored. */
    start_timer(often, 1, 0);
    sleep_ms(10);
    show("blocked", &set, 1000);
    CHECK(timer_delete(once) == 0 && timer_delete(often) == 0);
}

/* However short its period, a timer has one signal in the queue; many of them, set again and again. */
CASE(timers_one_signal_each) {
    sigset_t set = blocked(SIGRTMIN);
    timer_t timer = new_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN, 0);
    for (int i = 0; i < 1000; i++) {
        struct itimerspec t = {{0, 1}, {0, 1}};
        CHECK(timer_settime(timer, 0, &t, NULL) == 0);
    }
    start_timer(timer, 1, 0);
    show("last", &set, 1000);
    show("no more", &set, 5);
    for (int i = 0; i < 1000; i++) {
        timer_t other = new_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN, i);
        struct itimerspec t = {{0, 1}, {0, 1}};
        CHECK(timer_settime(other, 0, &t, NULL) == 0 && timer_delete(other) == 0);
    }
    show("none", &set, 5);
}

static volatile int alarms;
static void on_alarm(int signal) {
    alarms++;
    (void)signal;
}
static void show_alarm(const char *what) {
    struct itimerval t;
    CHECK(getitimer(ITIMER_REAL, &t) == 0 && t.it_interval.tv_usec == 10000);
    printf("%s: %s, %s\n", what, alarms ? "some" : "none", t.it_value.tv_usec ? "armed" : "not armed");
    alarms = 0;
}
/* A periodic ITIMER_REAL goes on when its signal is taken, so not at all while that is ignored. */
CASE(alarm_goes_on_when_taken) {
    struct itimerval t = {{0, 10000}, {0, 10000}};
    signal(SIGALRM, SIG_IGN);
    CHECK(setitimer(ITIMER_REAL, &t, NULL) == 0);
    sleep_ms(30);
    show_alarm("ignored");
    signal(SIGALRM, on_alarm);
    sleep_ms(30);
    show_alarm("handled too late");
    raise(SIGALRM);
    show_alarm("one for the thread");
    kill(getpid(), SIGALRM);
    for (int i = 0; i < 100 && alarms < 3; i++)
        sleep_ms(10);
    sigset_t set = blocked(SIGALRM);
    sleep_ms(30);
    show_alarm("one for the process, then blocked");
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    for (int i = 0; i < 100 && alarms < 3; i++)
        sleep_ms(10);
    sigprocmask(SIG_BLOCK, &set, NULL);
    sleep_ms(30);
    show_alarm("unblocked");
    signal(SIGALRM, SIG_IGN);
    printf("ignored while pending: %d\n", is_pending(SIGALRM));
    t.it_value.tv_usec = 0;
    CHECK(setitimer(ITIMER_REAL, &t, NULL) == 0);
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
    CHECK(pthread_create(&other, NULL, spin, NULL) == 0 && pthread_getcpuclockid(other, &clock) == 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    /* This thread sleeps: its own time hardly moves, unless the machine takes its CPU away while it is up. */
    int spun_ms = 0, hardly = 0;
    for (int tries = 0; tries < 8 && !hardly; tries++) {
        CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start) == 0);
        int enough_ms = spun_ms + 25;
        for (int i = 0; i < 500 && spun_ms < enough_ms; i++) {
            sleep_ms(10);
            CHECK(clock_gettime(clock, &after) == 0);
            spun_ms = after.tv_sec * 1000 + after.tv_nsec / 1000000;
        }
        CHECK(spun_ms >= enough_ms);
        CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &mine) == 0);
        hardly = (mine.tv_sec - start.tv_sec) * 1000000000 + mine.tv_nsec - start.tv_nsec < 15000000;
    }
    CHECK(hardly);
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

static long us(struct timeval t) {
    return t.tv_sec * 1000000 + t.tv_usec;
}
static long cpu_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}
static void in_the_program(void) {
    for (volatile int i = 0; i < 3000000; i++)
        ;
}

static volatile int virtual_ticks, prof_ticks, limit_ticks;
static void on_tick(int sig) {
    sig == SIGVTALRM ? virtual_ticks++ : sig == SIGPROF ? prof_ticks++ : limit_ticks++;
}
CASE(interval_timers_of_cpu_time) {
    signal(SIGVTALRM, on_tick), signal(SIGPROF, on_tick);
    struct itimerval t = {{0, 0}, {0, 30000}}, old;
    /* Asleep nothing is used, unless the machine takes the CPU away while this is up, which counts. */
    int slept = 0;
    for (int tries = 0; tries < 8 && !slept; tries++) {
        prof_ticks = 0;
        long begin = cpu_us();
        CHECK(setitimer(ITIMER_PROF, &t, NULL) == 0);
        sleep_ms(90);
        CHECK(getitimer(ITIMER_PROF, &old) == 0);
        slept = cpu_us() - begin < 25000;
    }
    CHECK(slept && prof_ticks == 0 && old.it_value.tv_usec > 0 && old.it_value.tv_usec <= 40000);
    burn(60);
    CHECK(prof_ticks == 1 && getitimer(ITIMER_PROF, &old) == 0 && old.it_value.tv_usec == 0);
    t.it_interval.tv_usec = 10000;
    CHECK(setitimer(ITIMER_VIRTUAL, &t, NULL) == 0);
    for (long begin = cpu_us(); virtual_ticks < 4 && cpu_us() - begin < 5000000;)
        in_the_program();
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
    for (long begin = cpu_us(); cpu_us() - begin < 60000;)
        in_the_program();
    CHECK(getrusage(RUSAGE_SELF, &self) == 0 && self.ru_utime.tv_sec * 1000 + self.ru_utime.tv_usec / 1000 >= 10);
    pid_t child = fork_clean();
    if (child == 0) {
        for (long begin = cpu_us(); cpu_us() - begin < 60000;)
            in_the_program();
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

static void in_the_kernel(void) {
    static char block[1 << 20];
    static int zero = -1;
    if (zero < 0)
        zero = open("/dev/zero", O_RDONLY);
    /* A signal may cut it short. */
    CHECK(read(zero, block, sizeof block) > 0);
}
/* Natively Linux looks at ticks, which may see the wrong half. */
static int is_inside(void) {
    return access("/proc/occlum", F_OK) == 0;
}
/* Works for so long: getrusage says so, and calls most of it system time, or user time. */
static void share(void (*work)(void), int is_system, int who, long long_us) {
    struct rusage a, b;
    work();
    CHECK(getrusage(who, &a) == 0);
    for (long begin = cpu_us(); cpu_us() < begin + long_us;)
        work();
    CHECK(getrusage(who, &b) == 0);
    long user = us(b.ru_utime) - us(a.ru_utime), system = us(b.ru_stime) - us(a.ru_stime);
    CHECK(user + system > long_us * 9 / 10);
    CHECK(!is_inside() || (is_system ? system > 2 * user : user > 2 * system));
}

CASE(user_and_system) {
    share(in_the_program, 0, RUSAGE_SELF, 400000);
    share(in_the_kernel, 1, RUSAGE_SELF, 400000);
    share(in_the_program, 0, RUSAGE_THREAD, 400000);
    struct tms t;
    struct rusage u, before, children;
    CHECK(getrusage(RUSAGE_SELF, &u) == 0 && times(&t) != (clock_t)-1);
    CHECK(labs(t.tms_utime - us(u.ru_utime) / 10000) <= 5 && labs(t.tms_stime - us(u.ru_stime) / 10000) <= 5);
    char text[1000] = "";
    int fd = open("/proc/self/stat", O_RDONLY);
    CHECK(read(fd, text, sizeof text - 1) > 0);
    unsigned long user, system;
    CHECK(sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) == 2);
    CHECK(labs(user - us(u.ru_utime) / 10000) <= 5 && labs(system - us(u.ru_stime) / 10000) <= 5);
    /* What is shown never goes back. */
    before = u;
    for (int i = 0; i < 3000; i++) {
        getppid();
        CHECK(getrusage(RUSAGE_SELF, &u) == 0 && us(u.ru_utime) >= us(before.ru_utime) && us(u.ru_stime) >= us(before.ru_stime));
        before = u;
    }
    pid_t child = fork_clean();
    if (child == 0) {
        if (fork() == 0) {
            share(in_the_kernel, 1, RUSAGE_SELF, 300000);
            fflush(stdout);
            _exit(guest_failures);
        }
        _exit(wait(NULL) <= 0);
    }
    int status;
    CHECK(wait4(child, &status, 0, &u) == child && status == 0 && us(u.ru_stime) + us(u.ru_utime) > 270000);
    CHECK(!is_inside() || us(u.ru_stime) > us(u.ru_utime));
    CHECK(getrusage(RUSAGE_CHILDREN, &children) == 0 && us(children.ru_stime) == us(u.ru_stime) && us(children.ru_utime) == us(u.ru_utime));
    CHECK(children.ru_maxrss == u.ru_maxrss && u.ru_maxrss > 1024);
}

/* Long calls among short ones are counted once each: what the program computes afterwards is its own. */
CASE(long_calls_among_short_ones) {
    static char b[1 << 20];
    struct rusage before, after;
    for (int i = 0; i < 200; i++)
        getrandom(b, 1, 0);
    for (int i = 0; i < 66; i++) {
        getrandom(b, sizeof b, 0);
        for (int k = 0; k < 33; k++)
            getrandom(b, 1, 0);
    }
    CHECK(getrusage(RUSAGE_SELF, &before) == 0);
    struct timespec a, t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    volatile double x = 1;
    do {
        for (int i = 0; i < 1000000; i++)
            x = x * 1.0000001;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    } while ((t.tv_sec - a.tv_sec) * 1000 + (t.tv_nsec - a.tv_nsec) / 1000000 < 300);
    CHECK(getrusage(RUSAGE_SELF, &after) == 0);
    CHECK(us(after.ru_utime) - us(before.ru_utime) > 200000);
}

/* ITIMER_VIRTUAL counts what the program computes, ITIMER_PROF what the kernel does for it as well. */
CASE(interval_timers_of_user_time) {
    signal(SIGVTALRM, on_tick), signal(SIGPROF, on_tick);
    struct itimerval t = {{0, 0}, {0, 400000}}, left;
    CHECK(setitimer(ITIMER_VIRTUAL, &t, NULL) == 0 && setitimer(ITIMER_PROF, &t, NULL) == 0);
    for (long begin = cpu_us(); cpu_us() < begin + 700000;)
        in_the_kernel();
    CHECK(virtual_ticks == 0 && prof_ticks == 1);
    CHECK(getitimer(ITIMER_VIRTUAL, &left) == 0 && left.it_value.tv_usec > 100000 && left.it_value.tv_usec <= 404000);
    CHECK(getitimer(ITIMER_PROF, &left) == 0 && left.it_value.tv_usec == 0);
    long begin = cpu_us();
    while (!virtual_ticks && cpu_us() < begin + 5000000)
        in_the_program();
    CHECK(virtual_ticks == 1 && cpu_us() > begin + 100000);
}

CASE(faults_and_switches) {
    struct rusage a, b;
    CHECK(getrusage(RUSAGE_SELF, &a) == 0);
    size_t size = 16 << 20;
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(p, 1, size);
    CHECK(getrusage(RUSAGE_SELF, &b) == 0 && b.ru_minflt > a.ru_minflt && b.ru_maxrss >= 16 * 1024);
    munmap(p, size);
    CHECK(getrusage(RUSAGE_SELF, &a) == 0 && a.ru_maxrss >= b.ru_maxrss);
    for (int i = 0; i < 10; i++)
        usleep(1000);
    CHECK(getrusage(RUSAGE_THREAD, &b) == 0 && getrusage(RUSAGE_SELF, &b) == 0 && b.ru_nvcsw >= a.ru_nvcsw + 10);
    CHECK_ERRNO(getrusage(RUSAGE_SELF, (void *)8), EFAULT);
    CHECK_ERRNO(getrusage(2, &a), EINVAL);
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
