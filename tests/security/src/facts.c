// Crafted ELF files: a return into one makes the LibOS read what the file names as targets of branches.
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CODE = 0x1000, DYNAMIC = 0x2000, TABLE = 0x3000, FUNCTIONS = 1 << 20, BITMAPS = 4 << 20 };

static void put(int fd, const void *bytes, size_t len, off_t at) {
    if (pwrite(fd, bytes, len, at) != (ssize_t)len)
        exit(9);
}

// A page of code, data as far as addresses go, and a dynamic section.
static int make(const uint64_t (*dynamic)[2], size_t entries, size_t code) {
    int fd = open("/tmp/crafted", O_RDWR | O_CREAT | O_TRUNC, 0755);
    Elf64_Ehdr e = {.e_ident = "\177ELF\2\1\1", .e_type = ET_DYN, .e_machine = EM_X86_64, .e_phoff = sizeof e,
                    .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 3, .e_shentsize = sizeof(Elf64_Shdr)};
    Elf64_Phdr p[3] = {
        {PT_LOAD, PF_R | PF_X, CODE, CODE, CODE, code, code, 4096},
        {PT_LOAD, PF_R, DYNAMIC, DYNAMIC, DYNAMIC, 1u << 31, 1u << 31, 4096},
        {PT_DYNAMIC, PF_R, DYNAMIC, DYNAMIC, DYNAMIC, entries * 16, entries * 16, 8},
    };
    char nops[4096];
    memset(nops, 0x90, sizeof nops);
    put(fd, &e, sizeof e, 0);
    put(fd, p, sizeof p, sizeof e);
    put(fd, nops, sizeof nops, CODE);
    put(fd, dynamic, entries * 16, DYNAMIC);
    return fd;
}

static int with_bitmaps(void) {
    static const uint64_t dynamic[][2] = {{36, TABLE}, {35, BITMAPS}};
    int fd = make(dynamic, 2, 4096);
    char *ones = malloc(BITMAPS);
    memset(ones, 0xff, BITMAPS);
    put(fd, ones, BITMAPS, TABLE);
    return fd;
}

static int with_functions(void) {
    static const uint64_t dynamic[][2] = {{DT_SYMTAB, TABLE}, {DT_STRTAB, TABLE + FUNCTIONS * sizeof(Elf64_Sym)}};
    int fd = make(dynamic, 2, 16 << 20);
    Elf64_Sym *s = calloc(FUNCTIONS, sizeof *s);
    for (int n = 0; n < FUNCTIONS; n++)
        s[n] = (Elf64_Sym){.st_info = STT_FUNC, .st_value = CODE + n * 8};
    put(fd, s, FUNCTIONS * sizeof *s, TABLE);
    return fd;
}

// Ends the process: no call returns there.
static void return_into(int fd) {
    char *code = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, CODE);
    __asm__ volatile("push %0\n ret" ::"r"(code + 32) : "memory");
}

int main(int argc, char **argv) {
    int files = argc > 2 ? atoi(argv[2]) : 1;
    for (int n = 0; n < files; n++) {
        pid_t child = fork();
        if (!child) {
            return_into(strcmp(argv[1], "bitmaps") ? with_functions() : with_bitmaps());
            _exit(8);
        }
        int status;
        waitpid(child, &status, 0);
        unlink("/tmp/crafted");
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV)
            return printf("file %d: status %x\n", n, status), 1;
    }
    puts("alive");
}
