/* Lets the n-th call on a file below a folder fail: loaded before libc (LD_PRELOAD), armed by the program itself. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX], told[2 * PATH_MAX + 32];
static atomic_long calls;
static long chosen;
static int error; /* 0: the chosen read or write does half of what it is asked for; negative: it ends the process */

/* Fail call number `call` (from 1; 0: none) below `path` with `number`. */
void faults_arm(const char *path, long call, int number) {
    chosen = call;
    error = number;
    calls = 0;
    told[0] = 0;
    snprintf(folder, sizeof folder, "%s", path);
}

long faults_calls(void) { return calls; }

const char *faults_told(void) { return told; }

static int is_below(const char *path) {
    size_t length = strlen(folder);
    return !strncmp(path, folder, length) && (!path[length] || path[length] == '/');
}

static void of_descriptor(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
}

/* Whether this call is the chosen one. */
static int hit(const char *name, int at, const char *given, int moves_bytes) {
    char path[2 * PATH_MAX] = "";
    int before = errno, found = 0;
    if (folder[0] && (error || moves_bytes)) {
        if (given && given[0] == '/')
            snprintf(path, sizeof path, "%s", given);
        else {
            if (at == AT_FDCWD)
                (void)!getcwd(path, PATH_MAX);
            else
                of_descriptor(at, path);
            if (given)
                snprintf(path + strlen(path), PATH_MAX, "/%s", given);
        }
        if (is_below(path) && atomic_fetch_add(&calls, 1) + 1 == chosen) {
            snprintf(told, sizeof told, "%s %s", name, path);
            found = 1;
            if (error < 0) kill(getpid(), SIGKILL);
        }
    }
    errno = before;
    return found;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL return (errno = error, -1)

#define OPENS(name)                                                     \
    int name(const char *path, int flags, ...) {                        \
        va_list more;                                                   \
        va_start(more, flags);                                          \
        mode_t mode = va_arg(more, mode_t);                             \
        va_end(more);                                                   \
        if (hit("open", AT_FDCWD, path, 0)) FAIL;                       \
        return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name))(path, flags, mode); \
    }
#define OPENS_AT(name)                                                  \
    int name(int at, const char *path, int flags, ...) {                \
        va_list more;                                                   \
        va_start(more, flags);                                          \
        mode_t mode = va_arg(more, mode_t);                             \
        va_end(more);                                                   \
        if (hit("open", at, path, 0)) FAIL;                             \
        return ((int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, #name))(at, path, flags, mode); \
    }
OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)

#define MOVES(name, buffer, place, pass)                                \
    ssize_t name(int file, buffer bytes, size_t count place) {          \
        if (hit(#name, file, 0, 1)) {                                   \
            if (error) FAIL;                                            \
            count = count > 1 ? count / 2 : count;                      \
        }                                                               \
        return REAL(name)(file, bytes, count pass);                     \
    }
#define NOWHERE
#define AT_PLACE , off_t place
#define PLACE , place
MOVES(read, void *, NOWHERE, NOWHERE)
MOVES(write, const void *, NOWHERE, NOWHERE)
MOVES(pread, void *, AT_PLACE, PLACE)
MOVES(pwrite, const void *, AT_PLACE, PLACE)
MOVES(pread64, void *, AT_PLACE, PLACE)
MOVES(pwrite64, const void *, AT_PLACE, PLACE)

int fsync(int file) { /* what a test writes need not survive that the power fails */
    if (hit("fsync", file, 0, 0)) FAIL;
    return 0;
}

int fdatasync(int file) { return fsync(file); }

int close(int file) { /* closed in any case, as Linux does it */
    int failed = hit("close", file, 0, 0), result = REAL(close)(file);
    if (failed) FAIL;
    return result;
}

int ftruncate64(int file, off64_t length) {
    if (hit("truncate", file, 0, 0)) FAIL;
    return REAL(ftruncate64)(file, length);
}

int ftruncate(int file, off_t length) { return ftruncate64(file, length); }

int rename(const char *from, const char *to) {
    if (hit("rename", AT_FDCWD, to, 0)) FAIL;
    return REAL(rename)(from, to);
}

int renameat(int one, const char *from, int other, const char *to) {
    if (hit("rename", other, to, 0)) FAIL;
    return REAL(renameat)(one, from, other, to);
}

int mkdir(const char *path, mode_t mode) {
    if (hit("mkdir", AT_FDCWD, path, 0)) FAIL;
    return REAL(mkdir)(path, mode);
}

int mkdirat(int at, const char *path, mode_t mode) {
    if (hit("mkdir", at, path, 0)) FAIL;
    return REAL(mkdirat)(at, path, mode);
}

int unlink(const char *path) {
    if (hit("unlink", AT_FDCWD, path, 0)) FAIL;
    return REAL(unlink)(path);
}

int unlinkat(int at, const char *path, int flags) {
    if (hit("unlink", at, path, 0)) FAIL;
    return REAL(unlinkat)(at, path, flags);
}
