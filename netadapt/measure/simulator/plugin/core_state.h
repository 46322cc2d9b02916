/* SPDX-License-Identifier: MIT
 *
 * What a core is between two instructions; shared by core.c, which computes it, and replay.c, which remembers it.
 */
#ifndef NETADAPT_CORE_STATE_H
#define NETADAPT_CORE_STATE_H

#include "core.h"

enum {
    /* Ports are booked in a ring of bits, one a cycle. */
    RING_WORDS = 64,
    /* Nothing is booked further ahead of the last dispatch: the ring must not meet its own tail. */
    HORIZON = (RING_WORDS - 2) * 64,
    PREDICTIONS = 1 << 16,
    MOST_ANSWERS = 512, /* QEMU's blocks are no longer than this */
};

struct Core {
    uint64_t ready[REGISTERS]; /* cycle at which a register's value can be used */
    uint64_t now;              /* in order: cycle of the last issue; out of order: cycle of the last dispatch */
    uint32_t slot;             /* micro-ops already issued or dispatched in that cycle */
    uint64_t last_result;      /* latest cycle at which any result is there */

    /* In order: the cycle from which a port is free. */
    uint64_t port_free[MOST_PORTS];

    /* Out of order: retirement cycles of the instructions in the window, and the bookings of each port. */
    uint64_t window[MOST_WINDOW];
    uint32_t oldest;
    uint64_t retirement;
    uint32_t retired_in_cycle;
    uint64_t ring_start;  /* multiple of 64, at most 64 cycles before `now`; what lies before is forgotten */
    uint64_t last_booked; /* latest cycle in which any port is booked */
    uint64_t booked[MOST_PORTS][RING_WORDS];

    uint32_t width, window_size, ports, branch_penalty;
    uint64_t store_slack; /* how far the bus may be behind before a store stalls */
    bool out_of_order;

    uint32_t path; /* hash of the blocks executed last */
    uint32_t *predictions;
    uint64_t branches, mispredictions;
    Memory memory;
};

/* What memory answered to the instructions of one block that access it, in program order. The first `known` answers
 * were obtained before the block is run; the others are obtained, and written down, while it runs. */
typedef struct {
    const Access *access, *end; /* those that are still to be made */
    uint64_t start;             /* `now` when the block began */
    uint32_t known, count;
    uint64_t times[MOST_ANSWERS]; /* of issue, relative to `start` */
    uint64_t delays[MOST_ANSWERS];
} Answers;

/* Makes the accesses of instruction `index`. The answer is how much later than an L1 hit a load has its data, or how
 * long a store has to wait because too many lines wait for main memory already. */
static inline uint64_t core_ask_memory(Core *core, const Operation *operation, uint32_t index, const Access **access,
                                       const Access *end, uint64_t time)
{
    uint64_t delay = 0;
    for (; *access < end && (*access)->index <= index; ++*access) {
        uint64_t one = memory_access(&core->memory, (*access)->line, operation->stores, time);
        delay = one > delay ? one : delay;
    }
    if (operation->loads)
        return delay;
    uint64_t bus_free = core->memory.bus_free, patience = time + core->store_slack;
    return bus_free > patience ? bus_free - patience : 0;
}

/* Advances the core by one block. */
void core_run_with(Core *, const Block *, Answers *);

#endif
