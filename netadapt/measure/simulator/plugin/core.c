/* SPDX-License-Identifier: MIT */
#include "core.h"

#include <stdlib.h>
#include <string.h>

enum {
    /* Ports are booked in a ring of bits, one a cycle, this far ahead of the oldest instruction that can still issue. */
    RING_WORDS = 64,
    RING_CYCLES = RING_WORDS * 64,
    PREDICTIONS = 1 << 16,
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
    uint64_t ring_start;
    uint64_t booked[MOST_PORTS][RING_WORDS];

    uint32_t width, window_size, ports, branch_penalty;
    uint64_t store_slack; /* how far the bus may be behind before a store stalls */
    bool out_of_order;

    uint32_t path; /* hash of the blocks executed last */
    uint32_t *predictions;
    uint64_t branches, mispredictions;
    Memory memory;
};

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t sources_ready(const Core *core, const Operation *operation)
{
    uint64_t time = 0;
    uint32_t plain = operation->source_count - operation->accumulates;
    for (uint32_t i = 0; i < plain; i++)
        time = later(time, core->ready[operation->sources[i]]);
    if (operation->accumulates) {
        uint64_t addend = core->ready[operation->sources[plain]];
        if (addend > operation->accumulator_advance)
            time = later(time, addend - operation->accumulator_advance);
    }
    return time;
}

static void write_results(Core *core, const Operation *operation, uint64_t issue, uint64_t done)
{
    for (uint32_t i = 0; i < operation->destination_count; i++)
        core->ready[operation->destinations[i]] = done;
    if (operation->written_back != NO_REGISTER)
        core->ready[operation->written_back] = issue + 1;
    core->last_result = later(core->last_result, done);
}

/* Makes the accesses of instruction `index` and returns the longest delay beyond an L1 hit. */
static uint64_t access_memory(Core *core, const Operation *operation, uint32_t index, const Access **access,
                              const Access *end, uint64_t time)
{
    uint64_t delay = 0;
    for (; *access < end && (*access)->index <= index; ++*access)
        delay = later(delay, memory_access(&core->memory, (*access)->line, operation->stores, time));
    return delay;
}

/* --- in order ------------------------------------------------------------------------------------------------- */

/* Takes one port of each group that the operation needs, and returns when it can issue. */
static uint64_t take_ports(Core *core, const Operation *operation, uint64_t time)
{
    uint32_t taken[MOST_GROUPS];
    for (uint32_t g = 0; g < operation->group_count; g++) {
        uint32_t best = __builtin_ctz(operation->groups[g].ports);
        for (uint32_t rest = operation->groups[g].ports & (operation->groups[g].ports - 1); rest; rest &= rest - 1)
            if (core->port_free[__builtin_ctz(rest)] < core->port_free[best])
                best = __builtin_ctz(rest);
        taken[g] = best;
        time = later(time, core->port_free[best]);
    }
    for (uint32_t g = 0; g < operation->group_count; g++)
        core->port_free[taken[g]] = time + operation->groups[g].cycles;
    return time;
}

static void issue_in_order(Core *core, const Operation *operation, uint32_t index, const Access **access,
                           const Access *end)
{
    uint64_t time = later(sources_ready(core, operation), core->now);
    if (time == core->now && core->slot >= core->width)
        time++;
    time = take_ports(core, operation, time);
    if (time > core->now)
        core->slot = 0;
    core->now = time;
    core->slot += operation->uops;
    uint64_t done = time + operation->latency;
    if (operation->loads || operation->stores) {
        uint64_t delay = access_memory(core, operation, index, access, end, time);
        if (operation->loads) {
            done += delay;
        } else if (core->memory.bus_free > time + core->store_slack) {
            core->now = core->memory.bus_free - core->store_slack;
            core->slot = 0;
        }
    }
    write_results(core, operation, time, done);
}

/* --- out of order --------------------------------------------------------------------------------------------- */

/* Forgets bookings of cycles that no instruction can issue in any more. */
static void advance_ring(Core *core)
{
    for (; core->now >= core->ring_start + 64; core->ring_start += 64)
        for (uint32_t port = 0; port < core->ports; port++)
            core->booked[port][(core->ring_start >> 6) % RING_WORDS] = 0;
}

/* The first cycle from `time` on in which a port is free. Beyond the ring, which takes thousands of cycles of waiting
 * for memory, ports are taken to be free. */
static uint64_t first_free(const Core *core, uint32_t port, uint64_t time)
{
    while (time < core->ring_start + RING_CYCLES - 64) {
        uint64_t free = ~core->booked[port][(time >> 6) % RING_WORDS] >> (time & 63);
        if (free)
            return time + __builtin_ctzll(free);
        time = (time | 63) + 1;
    }
    return time;
}

static void book(Core *core, uint32_t port, uint64_t time)
{
    if (time < core->ring_start + RING_CYCLES - 64)
        core->booked[port][(time >> 6) % RING_WORDS] |= 1ull << (time & 63);
}

/* Books one slot on the port of a set that is free first. */
static uint64_t book_first_free(Core *core, uint32_t ports, uint64_t time)
{
    uint32_t best = __builtin_ctz(ports);
    uint64_t earliest = first_free(core, best, time);
    for (ports &= ports - 1; ports && earliest > time; ports &= ports - 1) {
        uint64_t other = first_free(core, __builtin_ctz(ports), time);
        if (other < earliest) {
            earliest = other;
            best = __builtin_ctz(ports);
        }
    }
    book(core, best, earliest);
    return earliest;
}

/* Waits for a place in the window and a slot of the dispatch width. */
static void dispatch(Core *core, uint32_t uops)
{
    if (core->slot && core->slot + uops > core->width) {
        core->now++;
        core->slot = 0;
    }
    if (core->window[core->oldest] > core->now) {
        core->now = core->window[core->oldest];
        core->slot = 0;
    }
    for (core->slot += uops; core->slot > core->width; core->slot -= core->width)
        core->now++;
    if (core->now >= core->ring_start + 64)
        advance_ring(core);
}

/* Instructions leave the window in order, `width` a cycle; a new one takes the place of the oldest. */
static void retire(Core *core, uint64_t done)
{
    if (done > core->retirement) {
        core->retirement = done;
        core->retired_in_cycle = 0;
    }
    if (++core->retired_in_cycle > core->width) {
        core->retirement++;
        core->retired_in_cycle = 1;
    }
    core->window[core->oldest] = core->retirement;
    if (++core->oldest == core->window_size)
        core->oldest = 0;
}

static void issue_out_of_order(Core *core, const Operation *operation, uint32_t index, const Access **access,
                               const Access *end)
{
    dispatch(core, operation->uops);
    uint64_t time = later(sources_ready(core, operation), core->now + 1);
    uint64_t issue = time;
    for (uint32_t g = 0; g < operation->group_count; g++)
        for (uint32_t c = 0; c < operation->groups[g].cycles; c++)
            issue = later(issue, book_first_free(core, operation->groups[g].ports, time));
    uint64_t done = issue + operation->latency;
    if (operation->loads || operation->stores) {
        uint64_t delay = access_memory(core, operation, index, access, end, issue);
        if (operation->loads)
            done += delay;
        else if (core->memory.bus_free > issue + core->store_slack)
            done = later(done, core->memory.bus_free - core->store_slack);
    }
    write_results(core, operation, issue, done);
    retire(core, done);
}

/* --- the interface ---------------------------------------------------------------------------------------------- */

void core_run(Core *core, const Block *block, const Access *access, uint32_t access_count)
{
    const Access *end = access + access_count;
    if (core->out_of_order)
        for (uint32_t i = 0; i < block->length; i++)
            issue_out_of_order(core, &block->operations[i], i, &access, end);
    else
        for (uint32_t i = 0; i < block->length; i++)
            issue_in_order(core, &block->operations[i], i, &access, end);
}

void core_follow(Core *core, const Block *block, const Block *next)
{
    if (!block->operations[block->length - 1].branches)
        return;
    core->branches++;
    uint32_t *prediction = &core->predictions[(block->identity * 2654435761u ^ core->path * 0x9E3779B1u) >> 16];
    if (*prediction != next->identity) {
        *prediction = next->identity;
        core->mispredictions++;
        /* An out-of-order core finds out when the flags are there. */
        uint64_t known = core->out_of_order ? later(core->ready[REGISTER_FLAGS], core->now) : core->now;
        core->now = known + core->branch_penalty;
        core->slot = 0;
    }
    core->path = core->path << 3 ^ next->identity;
}

uint64_t core_now(const Core *core)
{
    return later(core->last_result, core->now);
}

void core_drain(Core *core)
{
    core->now = core_now(core);
    core->slot = 0;
}

uint64_t core_branches(const Core *core)
{
    return core->branches;
}

uint64_t core_mispredictions(const Core *core)
{
    return core->mispredictions;
}

Memory *core_memory(Core *core)
{
    return &core->memory;
}

Core *core_open(const Model *model)
{
    Core *core = calloc(1, sizeof *core);
    if (!core)
        return NULL;
    core->width = model->width;
    core->window_size = model->window;
    core->ports = model->ports;
    core->branch_penalty = model->branch_penalty;
    core->store_slack = (uint64_t)model->store_buffer * model->dram_line_cycles;
    core->out_of_order = model->out_of_order;
    core->predictions = calloc(PREDICTIONS, sizeof *core->predictions);
    return core->predictions && memory_open(&core->memory, model) ? core : NULL;
}
