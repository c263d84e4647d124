/* A disk that loses power: LD_PRELOAD shim that keeps, beside one directory, what of it would survive.
 *
 * POWERCUT_DIR      the directory watched (absolute)
 * POWERCUT_SHADOW   where the durable state is kept:
 *                     inodes/<id>   content as of the last fsync or fdatasync of the file
 *                     ready         there once the state of the start is all in it
 *                     names/<dir>   names as of the last fsync of the directory ("F id name" or "D 0 name")
 * POWERCUT_LIES     if set, syncs succeed and make nothing durable (to show that the harness has teeth)
 * POWERCUT_AGAIN    if set, the shadow is that of an earlier process: what that wrote and did not sync can be read
 *                     and is not on the disk, as after a sync that failed
 * POWERCUT_FAIL     "n": the n-th sync of a journal segment and all after it fail with EIO; other files are left out, since sled syncs
 *                   its own on a timer and tells nobody of a failure
 * POWERCUT_FULL     "n": writes fail with ENOSPC after n bytes
 *
 * Strict: a write is durable only after a sync of that file, a name only after an fsync of its directory, and
 * sync_file_range makes nothing durable. Real syncs are left out: a kill of the process keeps the page cache.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_RANGES 4096

struct range { off_t from, to; };
struct file {
    ino_t ino;
    long id;
    int whole;
    int count;
    struct range ranges[MAX_RANGES];
    struct file *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *dir, *shadow;
static size_t dir_len;
static int lies, again;
static long fail_at, full_after, syncs, written, next_id = 1;
static struct file *files;

static int (*real_open)(const char *, int, ...);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static int (*real_ftruncate)(int, off_t);
static int (*real_fallocate)(int, int, off_t, off_t);

static void die(const char *what) {
    dprintf(2, "powercut: %s: %s\n", what, strerror(errno));
    _exit(99);
}

static struct file *by_ino(ino_t ino) {
    for (struct file *f = files; f; f = f->next)
        if (f->ino == ino) return f;
    return NULL;
}

static struct file *by_fd(int fd) {
    struct stat st;
    if (!dir || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return NULL;
    return by_ino(st.st_ino);
}

static struct file *add(ino_t ino) {
    struct file *old = by_ino(ino);
    if (old) old->ino = 0; /* the number is used again, the old file is gone */
    struct file *f = calloc(1, sizeof *f);
    if (!f) die("calloc");
    f->ino = ino;
    f->id = next_id++;
    f->next = files;
    files = f;
    return f;
}

static void dirty(struct file *f, off_t from, off_t to) {
    if (!f) return;
    if (f->count == MAX_RANGES) f->whole = 1;
    else f->ranges[f->count++] = (struct range){from, to};
}

static void copy_range(int in, int out, off_t from, off_t to) {
    static char buffer[1 << 16];
    while (from < to) {
        size_t want = to - from < (off_t)sizeof buffer ? (size_t)(to - from) : sizeof buffer;
        ssize_t got = pread(in, buffer, want, from);
        if (got <= 0) return;
        if (real_pwrite(out, buffer, got, from) != got) die("write to the shadow");
        from += got;
    }
}

static void persist(int fd, struct file *f) {
    char path[PATH_MAX], self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    snprintf(path, sizeof path, "%s/inodes/%ld", shadow, f->id);
    int in = real_open(self, O_RDONLY | O_CLOEXEC);
    int out = real_open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    struct stat st;
    if (in < 0 || out < 0 || fstat(in, &st) != 0) die("open for the shadow");
    if (f->whole) copy_range(in, out, 0, st.st_size);
    else
        for (int i = 0; i < f->count; i++) copy_range(in, out, f->ranges[i].from, f->ranges[i].to);
    if (real_ftruncate(out, st.st_size) != 0) die("truncate the shadow");
    f->whole = f->count = 0;
    close(in);
    close(out);
}

static void names_file(const char *path, char *out) {
    int len = snprintf(out, PATH_MAX, "%s/names/root", shadow);
    for (const char *c = path + dir_len; *c && len < PATH_MAX - 8; c++) out[len++] = *c == '/' ? '%' : *c;
    out[len] = 0;
}

static void persist_names(const char *path) {
    char final[PATH_MAX], fresh[PATH_MAX + 8], line[PATH_MAX + 64], entry[PATH_MAX + 256];
    names_file(path, final);
    snprintf(fresh, sizeof fresh, "%s.new", final);
    int out = real_open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    DIR *d = opendir(path);
    if (out < 0 || !d) die("list for the shadow");
    struct dirent *e;
    while ((e = readdir(d))) {
        struct stat st;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(entry, sizeof entry, "%s/%s", path, e->d_name);
        if (lstat(entry, &st) != 0) continue;
        struct file *f = S_ISREG(st.st_mode) ? by_ino(st.st_ino) : NULL;
        int len = snprintf(line, sizeof line, "%c %ld %s\n", S_ISDIR(st.st_mode) ? 'D' : 'F', f ? f->id : 0, e->d_name);
        if (real_write(out, line, len) != len) die("write names");
    }
    closedir(d);
    close(out);
    if (rename(fresh, final) != 0) die("rename names");
}

/* Finds the number a durable name already has; a file without one gets the next free number. */
static void recall(const char *path, const char *name, struct file *f) {
    char list[PATH_MAX], line[PATH_MAX + 64], known[PATH_MAX + 64];
    names_file(path, list);
    FILE *in = fopen(list, "re");
    long id;
    while (in && fgets(line, sizeof line, in))
        if (sscanf(line, "F %ld %[^\n]", &id, known) == 2 && !strcmp(known, name)) f->id = id;
    if (in) fclose(in);
}

static void adopt(const char *path) {
    DIR *d = opendir(path);
    if (!d) return;
    struct dirent *e;
    char entry[PATH_MAX];
    while ((e = readdir(d))) {
        struct stat st;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(entry, sizeof entry, "%s/%s", path, e->d_name);
        if (lstat(entry, &st) != 0) continue;
        if (S_ISDIR(st.st_mode)) adopt(entry);
        if (!S_ISREG(st.st_mode)) continue;
        struct file *f = add(st.st_ino);
        if (again) {
            recall(path, e->d_name, f);
            continue;
        }
        f->whole = 1;
        int fd = real_open(entry, O_RDONLY | O_CLOEXEC);
        if (fd < 0) die("open at start");
        persist(fd, f);
        close(fd);
    }
    closedir(d);
    if (!again) persist_names(path);
}

__attribute__((constructor)) static void start(void) {
    real_open = dlsym(RTLD_NEXT, "open");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    real_write = dlsym(RTLD_NEXT, "write");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate");
    real_fallocate = dlsym(RTLD_NEXT, "fallocate");
    const char *watched = getenv("POWERCUT_DIR");
    shadow = getenv("POWERCUT_SHADOW");
    if (!watched || !shadow) return;
    lies = getenv("POWERCUT_LIES") != NULL;
    again = getenv("POWERCUT_AGAIN") != NULL;
    if (again) next_id = 1000000;
    fail_at = getenv("POWERCUT_FAIL") ? atol(getenv("POWERCUT_FAIL")) : 0;
    full_after = getenv("POWERCUT_FULL") ? atol(getenv("POWERCUT_FULL")) : 0;
    char path[PATH_MAX];
    for (const char *const *s = (const char *const[]){"", "/inodes", "/names", NULL}; *s; s++) {
        snprintf(path, sizeof path, "%s%s", shadow, *s);
        if (mkdir(path, 0700) != 0 && errno != EEXIST) die("make the shadow");
    }
    dir_len = strlen(watched);
    dir = watched;
    adopt(dir);
    snprintf(path, sizeof path, "%s/ready", shadow);
    close(real_open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

static int do_open(const char *path, int flags, mode_t mode) {
    if (!real_open) real_open = dlsym(RTLD_NEXT, "open");
    if (!dir || strncmp(path, dir, dir_len) != 0) return real_open(path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat st;
    int existed = lstat(path, &st) == 0;
    int fd = real_open(path, flags, mode);
    int saved = errno;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        struct file *f = existed ? by_ino(st.st_ino) : add(st.st_ino);
        if (!f) f = add(st.st_ino);
        if (flags & O_TRUNC) f->whole = 1;
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return fd;
}

static mode_t mode_of(int flags, va_list args) {
    return (flags & (O_CREAT | O_TMPFILE)) ? va_arg(args, mode_t) : 0;
}

#define OPEN(name)                                  \
    int name(const char *path, int flags, ...) {    \
        va_list args;                               \
        va_start(args, flags);                      \
        mode_t mode = mode_of(flags, args);         \
        va_end(args);                               \
        return do_open(path, flags, mode);          \
    }
OPEN(open)
OPEN(open64)

static int is_full(struct file *f, size_t n) {
    if (!f || !full_after) return 0;
    written += n;
    if (written <= full_after) return 0;
    errno = ENOSPC;
    return 1;
}

static ssize_t do_pwrite(int fd, const void *data, size_t n, off_t at) {
    pthread_mutex_lock(&lock);
    struct file *f = by_fd(fd);
    ssize_t done = is_full(f, n) ? -1 : real_pwrite(fd, data, n, at);
    if (done > 0) dirty(f, at, at + done);
    pthread_mutex_unlock(&lock);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { return do_pwrite(fd, data, n, at); }
ssize_t pwrite64(int fd, const void *data, size_t n, off_t at) { return do_pwrite(fd, data, n, at); }

ssize_t write(int fd, const void *data, size_t n) {
    if (!real_write) real_write = dlsym(RTLD_NEXT, "write");
    if (!dir) return real_write(fd, data, n);
    pthread_mutex_lock(&lock);
    struct file *f = by_fd(fd);
    pthread_mutex_unlock(&lock);
    if (!f) return real_write(fd, data, n); /* may block, as a pipe does */
    pthread_mutex_lock(&lock);
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t done = is_full(f, n) ? -1 : real_write(fd, data, n);
    if (done > 0) dirty(f, at, at + done);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!real_writev) real_writev = dlsym(RTLD_NEXT, "writev");
    if (!dir) return real_writev(fd, parts, count);
    pthread_mutex_lock(&lock);
    struct file *f = by_fd(fd);
    if (f) f->whole = 1;
    pthread_mutex_unlock(&lock);
    return real_writev(fd, parts, count);
}

static int do_ftruncate(int fd, off_t len) {
    pthread_mutex_lock(&lock);
    int result = real_ftruncate(fd, len);
    struct file *f = by_fd(fd);
    if (f) f->whole = 1;
    pthread_mutex_unlock(&lock);
    return result;
}
int ftruncate(int fd, off_t len) { return do_ftruncate(fd, len); }
int ftruncate64(int fd, off_t len) { return do_ftruncate(fd, len); }

static int do_fallocate(int fd, int mode, off_t at, off_t len) {
    pthread_mutex_lock(&lock);
    int result = real_fallocate(fd, mode, at, len);
    struct file *f = by_fd(fd);
    if (f) f->whole = 1;
    pthread_mutex_unlock(&lock);
    return result;
}
int fallocate(int fd, int mode, off_t at, off_t len) { return do_fallocate(fd, mode, at, len); }
int fallocate64(int fd, int mode, off_t at, off_t len) { return do_fallocate(fd, mode, at, len); }

static int do_sync(int fd) {
    if (!dir) return 0;
    char self[64], path[PATH_MAX];
    struct stat st;
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(self, path, sizeof path - 1);
    if (len <= 0 || strncmp(path, dir, dir_len) != 0 || fstat(fd, &st) != 0) return 0;
    path[len] = 0;
    int result = 0, saved = 0;
    pthread_mutex_lock(&lock);
    struct file *f = S_ISREG(st.st_mode) ? by_ino(st.st_ino) : NULL;
    if (f && fail_at && strstr(path, "/journal-") && ++syncs >= fail_at) {
        result = -1;
        saved = EIO;
        f->whole = f->count = 0; /* as Linux does: the pages count as clean, and are not on the disk */
    } else if (!lies) {
        if (f) persist(fd, f);
        if (S_ISDIR(st.st_mode)) persist_names(path);
    }
    pthread_mutex_unlock(&lock);
    if (result) errno = saved;
    return result;
}
int fsync(int fd) { return do_sync(fd); }
int fdatasync(int fd) { return do_sync(fd); }
int sync_file_range(int fd, off_t at, off_t len, unsigned flags) {
    (void)fd, (void)at, (void)len, (void)flags;
    return 0;
}
