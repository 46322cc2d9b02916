/* SPDX-License-Identifier: MIT
 *
 * What system calls tell a guest of the machine it runs on, replaced by the same on every machine and at every time.
 *
 * A program's course and the layout of its heap depend on it: ONNX Runtime does a little more when more than two
 * seconds have passed since a session was made, and Python takes the block size of a file's disk for its buffer.
 */
#ifndef NETADAPT_SHOWN_H
#define NETADAPT_SHOWN_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* What a system call under way will have answered, and where. */
typedef struct {
    int64_t number;
    uint64_t clock;  /* of clock_gettime */
    uint64_t answer; /* address in the guest; 0 where nothing is replaced */
} Question;

/* The question that a system call asks, from its number and its first three arguments. */
Question shown_question(int64_t number, uint64_t a0, uint64_t a1, uint64_t a2);

bool shown_is_time(const Question *);

/* Writes a time to where a clock's answer is on the host. */
void shown_write_time(void *answer, struct timespec);

/* Replaces the answer, which is there on the host. Clocks stand still. */
void shown_replace(const Question *, void *answer);

#endif
