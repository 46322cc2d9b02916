/* SPDX-License-Identifier: MIT
 *
 * Times blocks by remembering: what a block does to a core is a function of the core's state, relative to the clock,
 * and of what memory answers to it. Loops come back to the same few states, so nearly always this function need not be
 * computed again, only the caches asked (Schnarr and Larus, "Fast out-of-order processor simulation using memoization",
 * ASPLOS 1998). The cycles are exactly those of core.c.
 */
#ifndef NETADAPT_REPLAY_H
#define NETADAPT_REPLAY_H

#include "core.h"

typedef struct Replay Replay;

/* `remember` false computes everything anew: slower, for checking. Returns NULL when there is no memory. */
Replay *replay_open(Core *, bool remember);

/* Advances the core by one block, with the accesses it made in program order. */
void replay_run(Replay *, Block *, const Access *, uint32_t access_count);

/* Tells which block follows, so that the branch predictor learns and a wrong guess is paid for. */
void replay_follow(Replay *, const Block *block, const Block *next);

/* The core in a state in which it may be asked and changed. */
Core *replay_core(Replay *);

/* The cycle at which everything that was run so far is finished. */
uint64_t replay_now(const Replay *);

#endif
