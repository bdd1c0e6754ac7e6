/* Executes each argument in a child of its own, prints how it ended, and watches that a neighbour goes on. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int main(int argc, char **argv) {
    int gate[2], result = 0, status;
    if (pipe(gate))
        return 2;
    pid_t neighbour = fork();
    if (neighbour == 0) {
        char c;
        int n = 0;
        close(gate[1]);
        while (read(gate[0], &c, 1) == 1)
            n++;
        _exit(n == argc - 1 ? 0 : 1);
    }
    close(gate[0]);
    for (int i = 1; i < argc; i++) {
        int errors[2], error = 0;
        if (pipe2(errors, O_CLOEXEC))
            return 3;
        pid_t child = fork();
        if (child == 0) {
            struct rlimit none = {0, 0};
            setrlimit(RLIMIT_CORE, &none);
            alarm(1);
            close(gate[1]);
            int null = open("/dev/null", O_RDWR);
            for (int fd = 0; fd < 3; fd++)
                dup2(null, fd);
            execl(argv[i], argv[i], (char *)NULL);
            error = errno;
            write(errors[1], &error, sizeof error);
            _exit(99);
        }
        close(errors[1]);
        if (read(errors[0], &error, sizeof error) == sizeof error)
            printf("%s: %s", last_part(argv[i]), strerrorname_np(error));
        else
            printf("%s: started", last_part(argv[i]));
        close(errors[0]);
        if (waitpid(child, &status, 0) != child)
            result = 4;
        else if (WIFSIGNALED(status))
            printf(", signal %d\n", WTERMSIG(status));
        else
            printf(", exit %d\n", WEXITSTATUS(status));
        fflush(stdout);
        if (write(gate[1], "x", 1) != 1)
            result = 5;
    }
    close(gate[1]);
    if (waitpid(neighbour, &status, 0) != neighbour || status != 0)
        result = 6;
    printf("neighbour: %s\n", result ? "harmed" : "unharmed");
    return result;
}
