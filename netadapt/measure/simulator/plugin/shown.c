/* SPDX-License-Identifier: MIT */
#include "shown.h"

#include <string.h>

/* Numbers of system calls on AArch64. */
enum { NEWFSTATAT = 79, FSTAT = 80, CLOCK_GETTIME = 113, SYSINFO = 179 };

/* Clocks that tell the date. */
enum { REALTIME = 0, REALTIME_COARSE = 5 };

/* A date, with nanoseconds: Python's numbers for dates before 2006, and for 0, take less memory. */
static const struct timespec DATE = {1700000000, 500000000};
/* For clocks that count from a start. */
static const struct timespec SINCE_START = {1000, 500000000};

/* Linux's `struct stat` on AArch64. */
typedef struct {
    uint64_t device, inode;
    uint32_t mode, links, owner, group;
    uint64_t special_device, padding;
    int64_t size;
    int32_t block_size, more_padding;
    int64_t blocks;
    int64_t accessed[2], modified[2], changed[2];
} Stat;

/* The first fields of Linux's `struct sysinfo`, as far as they tell about the machine; sizes in bytes. */
typedef struct {
    int64_t uptime;
    uint64_t loads[3];
    uint64_t memory, free_memory, shared_memory, buffers, swap, free_swap;
    uint16_t processes;
} SystemInfo;

Question shown_question(int64_t number, uint64_t a0, uint64_t a1, uint64_t a2)
{
    switch (number) {
    case CLOCK_GETTIME:
        return (Question){number, a0, a1};
    case FSTAT:
        return (Question){number, 0, a1};
    case NEWFSTATAT:
        return (Question){number, 0, a2};
    case SYSINFO:
        return (Question){number, 0, a0};
    default:
        return (Question){number, 0, 0};
    }
}

bool shown_is_time(const Question *question)
{
    return question->number == CLOCK_GETTIME;
}

void shown_write_time(void *answer, struct timespec time)
{
    int64_t shown[2] = {time.tv_sec, time.tv_nsec};
    memcpy(answer, shown, sizeof shown);
}

/* What a file is stays: the dynamic linker knows libraries by their device and inode. */
static void replace_stat(Stat *stat)
{
    stat->links = 1;
    stat->owner = stat->group = 0;
    stat->block_size = 4096;
    stat->blocks = (stat->size + 511) / 512;
    int64_t *times[] = {stat->accessed, stat->modified, stat->changed};
    for (unsigned i = 0; i < sizeof times / sizeof *times; i++)
        shown_write_time(times[i], DATE);
}

/* As guest_files/proc/meminfo has it. */
static void replace_system_info(SystemInfo *info)
{
    *info = (SystemInfo){
        .uptime = SINCE_START.tv_sec, .memory = 2ull << 30, .free_memory = 1ull << 30, .processes = 1};
}

void shown_replace(const Question *question, void *answer)
{
    switch (question->number) {
    case CLOCK_GETTIME:
        shown_write_time(answer,
                         question->clock == REALTIME || question->clock == REALTIME_COARSE ? DATE : SINCE_START);
        break;
    case NEWFSTATAT:
    case FSTAT:
        replace_stat(answer);
        break;
    case SYSINFO:
        replace_system_info(answer);
        break;
    }
}
