/* Signals: handlers, siginfo, ucontext, masks, restart, alternate stack, groups, timers. */
#include "guest.h"
#include <setjmp.h>
#include <sys/time.h>
#include <ucontext.h>

static volatile sig_atomic_t count, last, code, value_seen;
static volatile pid_t sender;
static void handler(int signal) {
    last = signal;
    count++;
}
static void info_handler(int signal, siginfo_t *info, void *context) {
    last = signal;
    code = info->si_code;
    sender = info->si_pid;
    value_seen = info->si_value.sival_int;
    count += context != NULL;
}
static void install(int signal, void (*f)(int), int flags) {
    struct sigaction a = {.sa_handler = f, .sa_flags = flags};
    CHECK(sigaction(signal, &a, NULL) == 0);
}
static void install_info(int signal, int flags) {
    struct sigaction a = {.sa_sigaction = info_handler, .sa_flags = flags | SA_SIGINFO};
    CHECK(sigaction(signal, &a, NULL) == 0);
}

CASE(handlers) {
    install(SIGUSR1, handler, 0);
    for (int i = 0; i < 100; i++)
        raise(SIGUSR1);
    printf("%d times, last %d\n", count, last);
    struct sigaction old;
    CHECK(sigaction(SIGUSR1, NULL, &old) == 0 && old.sa_handler == handler);
    CHECK_ERRNO(sigaction(SIGKILL, &old, NULL), EINVAL);
    CHECK_ERRNO(sigaction(65, &old, NULL), EINVAL);
    CHECK_ERRNO(kill(getpid(), 65), EINVAL);
}

CASE(siginfo) {
    install_info(SIGUSR1, 0);
    kill(getpid(), SIGUSR1);
    printf("code %d, own pid %d, count %d\n", code, sender == getpid(), count);
    sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 77});
    printf("code %d, value %d\n", code, value_seen);
    raise(SIGUSR1);
    printf("code %d\n", code);
    install_info(SIGCHLD, 0);
    pid_t child = fork_clean();
    if (child == 0)
        _exit(6);
    report("child", child);
    printf("SIGCHLD code %d, pid %d\n", code, sender == child);
}

CASE(default_actions) {
    static const int fatal[] = {SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGUSR1, SIGPIPE, SIGALRM, SIGTERM, SIGXCPU, SIGSYS, 34, 64};
    for (unsigned i = 0; i < sizeof fatal / sizeof *fatal; i++) {
        pid_t child = fork_clean();
        if (child == 0) {
            raise(fatal[i]);
            _exit(0);
        }
        report("raised", child);
    }
    static const int harmless[] = {SIGCHLD, SIGURG, SIGWINCH, SIGCONT};
    for (unsigned i = 0; i < 4; i++)
        raise(harmless[i]);
    puts("alive");
}

CASE(masks) {
    install(SIGUSR1, handler, 0);
    install(SIGUSR2, handler, 0);
    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, &old) == 0 && !sigismember(&old, SIGUSR1));
    raise(SIGUSR1);
    raise(SIGUSR1);
    CHECK(count == 0 && sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1) && !sigismember(&pending, SIGUSR2));
    sigprocmask(SIG_SETMASK, &old, NULL);
    printf("delivered %d\n", count);
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    sigprocmask(SIG_SETMASK, NULL, &set);
    printf("KILL blocked %d, STOP blocked %d\n", sigismember(&set, SIGKILL), sigismember(&set, SIGSTOP));
    CHECK_ERRNO(sigprocmask(17, &set, NULL), EINVAL);
}

static void nested(int signal) {
    static volatile int depth;
    if (++depth < 3 && count < 3)
        raise(signal);
    last = depth > last ? depth : last;
    depth--;
    count++;
}
CASE(nodefer_and_resethand) {
    install(SIGUSR1, nested, SA_NODEFER);
    raise(SIGUSR1);
    printf("depth %d, count %d\n", last, count);
    last = count = 0;
    install(SIGUSR2, nested, 0);
    raise(SIGUSR2);
    printf("depth %d, count %d\n", last, count);
    install(SIGTERM, handler, SA_RESETHAND);
    raise(SIGTERM);
    struct sigaction now;
    sigaction(SIGTERM, NULL, &now);
    printf("reset %d\n", now.sa_handler == SIG_DFL);
}

CASE(realtime_signals_queue) {
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &set, &old);
    install_info(SIGRTMIN + 1, 0);
    for (int i = 0; i < 5; i++)
        sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = i});
    for (int i = 0; i < 2; i++) {
        siginfo_t info;
        CHECK(sigwaitinfo(&set, &info) == SIGRTMIN + 1);
        printf("value %d\n", info.si_value.sival_int);
    }
    sigprocmask(SIG_SETMASK, &old, NULL);
    printf("handled %d, last value %d\n", count, value_seen);
}

CASE(interrupted_calls) {
    install(SIGALRM, handler, 0);
    int p[2];
    char c;
    CHECK(pipe(p) == 0);
    struct itimerval t = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &t, NULL);
    CHECK_ERRNO(read(p[0], &c, 1), EINTR);
    /* Again and again: on a busy machine the first one may come before pause. */
    t.it_interval.tv_usec = 20000;
    setitimer(ITIMER_REAL, &t, NULL);
    CHECK_ERRNO(pause(), EINTR);
    t.it_interval.tv_usec = 0;
    setitimer(ITIMER_REAL, &t, NULL);
    count = 2;
    struct timespec want = {5, 0}, rest = {0, 0};
    CHECK_ERRNO(nanosleep(&want, &rest), EINTR);
    printf("rest %d, count %d\n", rest.tv_sec == 4, count);
    install(SIGALRM, handler, SA_RESTART);
    pid_t child = fork_clean();
    if (child == 0) {
        sleep_ms(60);
        write(p[1], "r", 1);
        _exit(0);
    }
    setitimer(ITIMER_REAL, &t, NULL);
    CHECK(read(p[0], &c, 1) == 1 && c == 'r');
    report("writer", child);
    printf("restarted, count %d\n", count);
    child = fork_clean();
    if (child == 0) {
        sleep_ms(60);
        _exit(4);
    }
    setitimer(ITIMER_REAL, &t, NULL);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 4);
    printf("wait restarted, count %d\n", count);
}

CASE(suspend_and_timedwait) {
    install(SIGUSR1, handler, 0);
    sigset_t set, empty;
    sigemptyset(&empty);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pid_t me = getpid(), child = fork_clean();
    if (child == 0) {
        sleep_ms(20);
        kill(me, SIGUSR1);
        _exit(0);
    }
    CHECK_ERRNO(sigsuspend(&empty), EINTR);
    CHECK(count == 1);
    report("child", child);
    struct timespec t = {0, 10000000};
    CHECK_ERRNO(sigtimedwait(&set, NULL, &t), EAGAIN);
    kill(me, SIGUSR1);
    siginfo_t info;
    CHECK(sigtimedwait(&set, &info, &t) == SIGUSR1 && info.si_code == SI_USER);
    t.tv_nsec = 2000000000;
    CHECK_ERRNO(sigtimedwait(&set, NULL, &t), EINVAL);
    CHECK(count == 1);
    puts("done");
}

static char *alt_low, *alt_high;
static volatile int on_alt;
static void alt_handler(int signal, siginfo_t *info, void *context) {
    char here;
    stack_t st;
    on_alt = &here > alt_low && &here < alt_high;
    sigaltstack(NULL, &st);
    on_alt += 2 * (st.ss_flags == SS_ONSTACK);
    (void)signal, (void)info, (void)context;
}
CASE(alternate_stack) {
    size_t size = 65536;
    alt_low = malloc(size);
    alt_high = alt_low + size;
    stack_t st = {.ss_sp = alt_low, .ss_size = size}, old;
    CHECK(sigaltstack(&st, NULL) == 0 && sigaltstack(NULL, &old) == 0 && old.ss_sp == alt_low && old.ss_flags == 0);
    struct sigaction a = {.sa_sigaction = alt_handler, .sa_flags = SA_ONSTACK | SA_SIGINFO};
    sigaction(SIGUSR1, &a, NULL);
    raise(SIGUSR1);
    printf("on the alternate stack: %d\n", on_alt);
    st.ss_size = 100;
    CHECK_ERRNO(sigaltstack(&st, NULL), ENOMEM);
    st.ss_flags = 77;
    CHECK_ERRNO(sigaltstack(&st, NULL), EINVAL);
    st.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&st, NULL) == 0);
    raise(SIGUSR1);
    printf("disabled: %d\n", on_alt);
}

static sigjmp_buf back;
static void jump_out(int signal) { siglongjmp(back, signal); }
CASE(jump_out_of_a_handler) {
    install(SIGUSR1, jump_out, 0);
    for (volatile int i = 0; i < 50; i++)
        if (sigsetjmp(back, 1) == 0)
            raise(SIGUSR1);
        else
            count++;
    printf("%d\n", count);
}

static void change_context(int signal, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    u->uc_mcontext.gregs[REG_RBX] = 0x1122334455667788;
    u->uc_mcontext.gregs[REG_RAX] += 5;
    (void)signal, (void)info;
}
CASE(handler_changes_registers) {
    struct sigaction a = {.sa_sigaction = change_context, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &a, NULL);
    long rax = SYS_tgkill, rbx = 1;
    register long r12 asm("r12") = 12;
    asm volatile("syscall"
                 : "+a"(rax), "+b"(rbx), "+r"(r12)
                 : "D"((long)getpid()), "S"((long)gettid()), "d"((long)SIGUSR1)
                 : "rcx", "r11", "memory");
    printf("rax %ld, rbx %lx, r12 %ld\n", rax, rbx, r12);
}

static volatile double sum;
static void use_fpu(int signal) {
    double x = 1;
    for (int i = 1; i < 50; i++)
        x = x * 1.5 / i;
    asm volatile("pxor %%xmm0,%%xmm0; pxor %%xmm7,%%xmm7; pxor %%xmm15,%%xmm15" ::: "xmm0", "xmm7", "xmm15");
    sum += x;
    last = signal;
    count++;
}
CASE(handlers_keep_vector_registers) {
    install(SIGALRM, use_fpu, SA_RESTART);
    struct itimerval t = {{0, 2000}, {0, 2000}};
    setitimer(ITIMER_REAL, &t, NULL);
    int wrong = 0;
    while (count < 20) {
        double in = 1234.5 + count, out = 0;
        asm volatile("movsd %1,%%xmm15; movsd %1,%%xmm7; mov $3000,%%ecx; 1: dec %%ecx; jnz 1b;"
                     "addsd %%xmm7,%%xmm15; movsd %%xmm15,%0"
                     : "=m"(out)
                     : "m"(in)
                     : "rcx", "xmm7", "xmm15", "cc");
        wrong += out != 2 * in;
    }
    printf("wrong %d\n", wrong);
}

CASE(timer_interrupts_busy_code) {
    install(SIGALRM, handler, 0);
    struct itimerval t = {{0, 3000}, {0, 3000}}, now;
    setitimer(ITIMER_REAL, &t, NULL);
    unsigned long x = 1;
    while (count < 10)
        x = x * 6364136223846793005 + 1;
    CHECK(getitimer(ITIMER_REAL, &now) == 0 && now.it_interval.tv_usec == 3000);
    t.it_value.tv_usec = t.it_interval.tv_usec = 0;
    setitimer(ITIMER_REAL, &t, NULL);
    CHECK(alarm(100) == 0 && alarm(0) > 90);
    printf("at least 10: %d\n", count >= 10 && x);
}

CASE(kill_a_group) {
    fflush(stdout);
    pid_t leader = 0, children[3];
    for (int i = 0; i < 3; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            setpgid(0, leader);
            for (;;)
                pause();
        }
        if (i == 0)
            leader = children[0];
        setpgid(children[i], leader);
    }
    CHECK(kill(-leader, SIGTERM) == 0);
    for (int i = 0; i < 3; i++)
        report("member", children[i]);
    CHECK_ERRNO(kill(-leader, SIGTERM), ESRCH);
    CHECK(getpgrp() != leader);
}

CASE(kill_a_busy_process) {
    pid_t child = fork_clean();
    if (child == 0)
        for (;;)
            asm volatile("");
    sleep_ms(20);
    CHECK(kill(child, SIGKILL) == 0);
    report("busy", child);
}

CASE(sigchld_ignored_reaps) {
    signal(SIGCHLD, SIG_IGN);
    pid_t child = fork_clean();
    if (child == 0)
        _exit(1);
    CHECK_ERRNO(waitpid(child, NULL, 0), ECHILD);
    puts("reaped");
}

CASE(handlers_are_inherited) {
    install(SIGUSR1, handler, 0);
    pid_t child = fork_clean();
    if (child == 0) {
        raise(SIGUSR1);
        _exit(count);
    }
    report("child's handler ran", child);
    CHECK(count == 0);
}

CASE(ping_pong_by_signals) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pid_t parent = getpid(), child = fork_clean();
    int signal, rounds = 200;
    if (child == 0) {
        for (int i = 0; i < rounds; i++) {
            sigwait(&set, &signal);
            kill(parent, SIGUSR1);
        }
        _exit(0);
    }
    for (int i = 0; i < rounds; i++) {
        kill(child, SIGUSR1);
        sigwait(&set, &signal);
    }
    report("partner", child);
}

/* A full queue refuses more values, and loses no other signal. */
CASE(full_queue) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    long sent = 0;
    while (sent < 1000000 && sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = (int)sent}) == 0) {
        sent++;
    }
    CHECK(errno == EAGAIN && sent > 1000);
    CHECK(kill(getpid(), SIGUSR2) == 0);
    siginfo_t info;
    CHECK(sigwaitinfo(&set, &info) == SIGUSR2);
    long got = 0;
    while (sigtimedwait(&set, &info, &(struct timespec){0, 0}) == SIGRTMIN && info.si_int == got) {
        got++;
    }
    CHECK(got == sent);
    puts("done");
}
