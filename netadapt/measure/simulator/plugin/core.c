/* SPDX-License-Identifier: MIT */
#include "core_state.h"

#include <stdlib.h>
#include <string.h>

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

static uint64_t answer(Core *core, const Operation *operation, uint32_t index, Answers *answers, uint64_t time)
{
    uint32_t number = answers->count++;
    if (number >= answers->known) {
        answers->times[number] = time - answers->start;
        answers->delays[number] =
            core_ask_memory(core, operation, index, &answers->access, answers->end, time);
    }
    return answers->delays[number];
}

/* --- in order ------------------------------------------------------------------------------------------------- */

/* Ports that are free now are all alike, however long they have been: replay.c does not remember that. */
static uint64_t port_free_from(const Core *core, uint32_t port)
{
    return later(core->port_free[port], core->now);
}

/* Takes one port of each group that the operation needs, and returns when it can issue. */
static uint64_t take_ports(Core *core, const Operation *operation, uint64_t time)
{
    uint32_t taken[MOST_GROUPS];
    for (uint32_t g = 0; g < operation->group_count; g++) {
        uint32_t best = __builtin_ctz(operation->groups[g].ports);
        for (uint32_t rest = operation->groups[g].ports & (operation->groups[g].ports - 1); rest; rest &= rest - 1)
            if (port_free_from(core, __builtin_ctz(rest)) < port_free_from(core, best))
                best = __builtin_ctz(rest);
        taken[g] = best;
        time = later(time, core->port_free[best]);
    }
    for (uint32_t g = 0; g < operation->group_count; g++)
        core->port_free[taken[g]] = time + operation->groups[g].cycles;
    return time;
}

static void issue_in_order(Core *core, const Operation *operation, uint32_t index, Answers *answers)
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
        uint64_t delay = answer(core, operation, index, answers, time);
        if (operation->loads) {
            done += delay;
        } else if (delay) {
            core->now = time + delay;
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

/* The first cycle from `time` on in which a port is free. Beyond the horizon, which takes thousands of cycles of
 * waiting for memory, ports are taken to be free. */
static uint64_t first_free(const Core *core, uint32_t port, uint64_t time)
{
    while (time < core->now + HORIZON) {
        uint64_t free = ~core->booked[port][(time >> 6) % RING_WORDS] >> (time & 63);
        if (free)
            return time + __builtin_ctzll(free);
        time = (time | 63) + 1;
    }
    return time;
}

static void book(Core *core, uint32_t port, uint64_t time)
{
    if (time >= core->now + HORIZON)
        return;
    core->booked[port][(time >> 6) % RING_WORDS] |= 1ull << (time & 63);
    core->last_booked = later(core->last_booked, time);
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

static void issue_out_of_order(Core *core, const Operation *operation, uint32_t index, Answers *answers)
{
    dispatch(core, operation->uops);
    uint64_t time = later(sources_ready(core, operation), core->now + 1);
    uint64_t issue = time;
    for (uint32_t g = 0; g < operation->group_count; g++)
        for (uint32_t c = 0; c < operation->groups[g].cycles; c++)
            issue = later(issue, book_first_free(core, operation->groups[g].ports, time));
    uint64_t done = issue + operation->latency;
    if (operation->loads || operation->stores) {
        uint64_t delay = answer(core, operation, index, answers, issue);
        done = operation->loads ? done + delay : later(done, issue + delay);
    }
    write_results(core, operation, issue, done);
    retire(core, done);
}

/* --- the interface ---------------------------------------------------------------------------------------------- */

void core_run_with(Core *core, const Block *block, Answers *answers)
{
    if (core->out_of_order)
        for (uint32_t i = 0; i < block->length; i++)
            issue_out_of_order(core, &block->operations[i], i, answers);
    else
        for (uint32_t i = 0; i < block->length; i++)
            issue_in_order(core, &block->operations[i], i, answers);
}

bool core_predicts(Core *core, const Block *block, const Block *next)
{
    if (!block->operations[block->length - 1].branches)
        return true;
    core->branches++;
    uint32_t *prediction = &core->predictions[(block->identity * 2654435761u ^ core->path * 0x9E3779B1u) >> 16];
    bool right = *prediction == next->identity;
    *prediction = next->identity;
    core->path = core->path << 3 ^ next->identity;
    core->mispredictions += !right;
    return right;
}

void core_mispredict(Core *core)
{
    /* An out-of-order core finds out when the flags are there. */
    uint64_t known = core->out_of_order ? later(core->ready[REGISTER_FLAGS], core->now) : core->now;
    core->now = known + core->branch_penalty;
    core->slot = 0;
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
