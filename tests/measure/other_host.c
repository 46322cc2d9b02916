/* Makes a program believe that it runs on another machine: its clock, its files and its memory are others. Loaded before
 * QEMU by tests, which set what differs by the environment. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

enum { CLOCKS = 16 };

static long long number(const char *name, long long otherwise)
{
    const char *text = getenv(name);
    return text ? atoll(text) : otherwise;
}

/* Time passes OTHER_SPEED times as fast as it does, from OTHER_SECONDS later on. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
    static long long begin[CLOCKS];
    long result = syscall(SYS_clock_gettime, clock, time);
    if (result || clock < 0 || clock >= CLOCKS)
        return result;
    long long now = time->tv_sec * 1000000000LL + time->tv_nsec;
    if (!begin[clock])
        begin[clock] = now;
    now = begin[clock] + (now - begin[clock]) * number("OTHER_SPEED", 1);
    time->tv_sec = now / 1000000000 + number("OTHER_SECONDS", 0);
    time->tv_nsec = now % 1000000000;
    return 0;
}

static int changed(int result, struct stat *file)
{
    if (result || !getenv("OTHER_FILES"))
        return result;
    file->st_blksize = 131072;
    file->st_blocks += 1000;
    file->st_nlink = 9;
    file->st_uid = file->st_gid = 65534;
    file->st_dev += 1 << 20;
    file->st_ino += 1LL << 50;
    file->st_atim = file->st_mtim = file->st_ctim = (struct timespec){1, 0};
    return 0;
}

int fstatat(int folder, const char *path, struct stat *file, int flags)
{
    return changed(syscall(SYS_newfstatat, folder, path, file, flags), file);
}

int fstatat64(int folder, const char *path, struct stat64 *file, int flags)
{
    return fstatat(folder, path, (struct stat *)file, flags);
}

int fstat(int descriptor, struct stat *file)
{
    return changed(syscall(SYS_fstat, descriptor, file), file);
}

int fstat64(int descriptor, struct stat64 *file)
{
    return fstat(descriptor, (struct stat *)file);
}

int sysinfo(struct sysinfo *info)
{
    int result = syscall(SYS_sysinfo, info);
    if (!result && getenv("OTHER_MEMORY"))
        info->totalram = info->freeram = number("OTHER_MEMORY", 0) / info->mem_unit;
    return result;
}
