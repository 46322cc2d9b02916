/* SPDX-License-Identifier: MIT */
#include "replay.h"

#include "core_state.h"

#include <stdlib.h>
#include <string.h>

enum {
    /* A core that waits for longer than this many cycles of bookings is not worth remembering. */
    MOST_BOOKED_WORDS = 8,
    /* Everything is forgotten when it takes more than this. */
    MOST_BYTES = 256 << 20,
    STATE_BUCKETS = 1 << 16,
    CHUNK = 1 << 20,
    /* A block is given up when most of so many attempts to remember it were in vain. */
    TRIAL = 256,
};

typedef struct State State;
typedef struct Step Step;

/* A step per instruction that asks memory, then a last one that tells how the block ends. */
typedef struct Edge {
    uint64_t delay;
    Step *to;
    struct Edge *other;
} Edge;

struct Step {
    uint64_t time; /* issue of the instruction relative to the start of the block; in the last step the block's length */
    State *end;    /* of the last step: the state after the block */
    Edge *edges;
};

/* What follows from a state when a certain block is run. */
typedef struct Transition {
    const Block *block;
    Step *first;
    struct Transition *other;
} Transition;

/* A core's state with all times relative to its clock, as words that can be compared. */
struct State {
    State *same_bucket;
    Transition *transitions;
    State *after_misprediction;
    uint64_t misprediction_cycles;
    uint64_t last_result;
    uint64_t hash;
    uint32_t length; /* of `words` */
    uint64_t words[];
};

/* How well remembering a block works. */
typedef struct Memo {
    uint32_t asking_count; /* instructions that access memory */
    uint32_t tries, hits;
    bool given_up;
    uint16_t asking[];
} Memo;

struct Replay {
    Core *core;
    bool remember;
    State *state;  /* of the core, or NULL when it was not looked up yet */
    bool is_ahead; /* the core itself has not been brought into `state` yet; only its clock is right */

    State **buckets;
    char *chunk;
    size_t chunk_left, bytes;
    char **chunks;
    uint32_t chunk_count;
};

/* --- memory ------------------------------------------------------------------------------------------------------ */

static void *take(Replay *replay, size_t size)
{
    size = (size + 7) & ~(size_t)7;
    if (size > replay->chunk_left) {
        replay->chunk = malloc(CHUNK);
        replay->chunks = realloc(replay->chunks, (replay->chunk_count + 1) * sizeof *replay->chunks);
        replay->chunks[replay->chunk_count++] = replay->chunk;
        replay->chunk_left = CHUNK;
        replay->bytes += CHUNK;
    }
    void *taken = replay->chunk;
    replay->chunk += size;
    replay->chunk_left -= size;
    return taken;
}

static void forget(Replay *replay)
{
    for (uint32_t i = 0; i < replay->chunk_count; i++)
        free(replay->chunks[i]);
    replay->chunk_count = 0;
    replay->chunk_left = replay->bytes = 0;
    memset(replay->buckets, 0, STATE_BUCKETS * sizeof *replay->buckets);
    replay->state = NULL;
}

/* --- states ------------------------------------------------------------------------------------------------------ */

/* Packs 16-bit numbers into words. */
typedef struct {
    uint64_t *words;
    uint32_t used; /* numbers */
    bool fits;
} Packer;

static void pack(Packer *packer, uint64_t number)
{
    packer->fits &= number <= UINT16_MAX;
    uint32_t place = packer->used++ % 4;
    uint64_t *word = &packer->words[(packer->used - 1) / 4];
    *word = place ? *word | number << (16 * place) : number;
}

static uint64_t unpack(Packer *packer)
{
    uint32_t place = packer->used++;
    return packer->words[place / 4] >> (16 * (place % 4)) & UINT16_MAX;
}

/* `time` relative to the clock; what lies so far back that it makes no difference is 0. */
static uint64_t ahead(const Core *core, uint64_t time, uint64_t no_difference)
{
    return time > core->now + no_difference ? time - core->now : 0;
}

static void pack_registers(const Core *core, Packer *packer)
{
    /* Out of order, nothing issues before the cycle after its dispatch. */
    uint64_t issue = core->out_of_order;
    for (uint32_t i = 0; i < REGISTERS; i++)
        pack(packer, ahead(core, core->ready[i], i == REGISTER_FLAGS ? 0 : issue));
    pack(packer, core->slot);
}

static void pack_window(const Core *core, Packer *packer)
{
    uint64_t retirement = ahead(core, core->retirement, 0);
    pack(packer, retirement);
    pack(packer, retirement ? core->retired_in_cycle : 0);
    for (uint32_t i = core->oldest; i < core->window_size; i++)
        pack(packer, ahead(core, core->window[i], 0));
    for (uint32_t i = 0; i < core->oldest; i++)
        pack(packer, ahead(core, core->window[i], 0));
}

/* The bookings of 64 cycles of a port. */
static uint64_t bookings(const Core *core, uint32_t port, uint64_t from)
{
    const uint64_t *ring = core->booked[port];
    uint64_t low = ring[(from >> 6) % RING_WORDS] >> (from & 63);
    return from & 63 ? low | ring[((from >> 6) + 1) % RING_WORDS] << (64 - (from & 63)) : low;
}

static uint32_t booked_words(const Core *core)
{
    return core->last_booked > core->now ? (core->last_booked - core->now + 63) / 64 : 0;
}

enum { MOST_WORDS = (REGISTERS + MOST_WINDOW + 8) / 4 + 2 + MOST_PORTS * MOST_BOOKED_WORDS };

/* Writes the state of the core into `words`; 0 when it is too far ahead of its clock to be remembered. */
static uint32_t write_state(const Core *core, uint64_t *words)
{
    Packer packer = {words, 0, true};
    pack_registers(core, &packer);
    if (core->out_of_order)
        pack_window(core, &packer);
    else
        for (uint32_t i = 0; i < core->ports; i++)
            pack(&packer, ahead(core, core->port_free[i], 0));
    uint32_t length = (packer.used + 3) / 4, booked = core->out_of_order ? booked_words(core) : 0;
    if (!packer.fits || booked > MOST_BOOKED_WORDS)
        return 0;
    for (uint32_t word = 0; word < booked; word++)
        for (uint32_t port = 0; port < core->ports; port++)
            words[length++] = bookings(core, port, core->now + 1 + 64 * word);
    return length;
}

static void read_bookings(Core *core, const uint64_t *words, uint32_t length)
{
    memset(core->booked, 0, sizeof core->booked);
    core->ring_start = core->now & ~63ull;
    core->last_booked = 0;
    for (uint32_t i = 0; i < length; i++) {
        if (!words[i])
            continue;
        uint64_t from = core->now + 1 + 64 * (i / core->ports), *ring = core->booked[i % core->ports];
        uint64_t last = from + 63 - __builtin_clzll(words[i]);
        core->last_booked = last > core->last_booked ? last : core->last_booked;
        ring[(from >> 6) % RING_WORDS] |= words[i] << (from & 63);
        if (from & 63)
            ring[((from >> 6) + 1) % RING_WORDS] |= words[i] >> (64 - (from & 63));
    }
}

/* Brings the core into a state, whose times begin at the core's clock. */
static void read_state(Core *core, const State *state)
{
    Packer packer = {(uint64_t *)state->words, 0, true};
    for (uint32_t i = 0; i < REGISTERS; i++)
        core->ready[i] = core->now + unpack(&packer);
    core->slot = unpack(&packer);
    core->last_result = core->now + state->last_result;
    if (!core->out_of_order) {
        for (uint32_t i = 0; i < core->ports; i++)
            core->port_free[i] = core->now + unpack(&packer);
        return;
    }
    core->retirement = core->now + unpack(&packer);
    core->retired_in_cycle = unpack(&packer);
    core->oldest = 0;
    for (uint32_t i = 0; i < core->window_size; i++)
        core->window[i] = core->now + unpack(&packer);
    uint32_t used = (packer.used + 3) / 4;
    read_bookings(core, state->words + used, state->length - used);
}

static uint64_t hash_of(const uint64_t *words, uint32_t length)
{
    uint64_t hash = length;
    for (uint32_t i = 0; i < length; i++)
        hash = (hash ^ words[i] ^ hash >> 29) * 0x9E3779B97F4A7C15ull;
    return hash ^ hash >> 32;
}

/* The remembered state that the core is in, a new one if need be, or NULL. */
static State *look_up(Replay *replay)
{
    Core *core = replay->core;
    uint64_t words[MOST_WORDS];
    uint32_t length = write_state(core, words);
    uint64_t last_result = ahead(core, core->last_result, 0);
    if (!length)
        return NULL;
    uint64_t hash = hash_of(words, length) + last_result;
    State **bucket = &replay->buckets[hash % STATE_BUCKETS];
    for (State *state = *bucket; state; state = state->same_bucket)
        if (state->hash == hash && state->length == length && state->last_result == last_result &&
            !memcmp(state->words, words, length * sizeof *words))
            return state;
    State *state = take(replay, sizeof *state + length * sizeof *words);
    *state = (State){.same_bucket = *bucket, .last_result = last_result, .hash = hash, .length = length};
    memcpy(state->words, words, length * sizeof *words);
    return *bucket = state;
}

static void catch_up(Replay *replay)
{
    if (replay->is_ahead)
        read_state(replay->core, replay->state);
    replay->is_ahead = false;
}

/* --- blocks ------------------------------------------------------------------------------------------------------ */

static Memo *memo_of(Block *block)
{
    if (block->memo)
        return block->memo;
    Memo *memo = calloc(1, sizeof *memo + block->length * sizeof *memo->asking);
    for (uint32_t i = 0; i < block->length; i++)
        if (block->operations[i].loads || block->operations[i].stores)
            memo->asking[memo->asking_count++] = i;
    return block->memo = memo;
}

static Step **first_step(Replay *replay, State *state, const Block *block)
{
    for (Transition *transition = state->transitions; transition; transition = transition->other)
        if (transition->block == block)
            return &transition->first;
    Transition *transition = take(replay, sizeof *transition);
    *transition = (Transition){.block = block, .other = state->transitions};
    state->transitions = transition;
    return &transition->first;
}

static Step **next_step(Replay *replay, Step *step, uint64_t delay)
{
    for (Edge *edge = step->edges; edge; edge = edge->other)
        if (edge->delay == delay)
            return &edge->to;
    Edge *edge = take(replay, sizeof *edge);
    *edge = (Edge){.delay = delay, .other = step->edges};
    step->edges = edge;
    return &edge->to;
}

static Step *new_step(Replay *replay, uint64_t time)
{
    Step *step = take(replay, sizeof *step);
    *step = (Step){.time = time};
    return step;
}

/* Follows what is remembered as far as it goes, asking memory on the way. True when it went to the block's end. */
static bool replay_remembered(Replay *replay, const Block *block, Step **place, Answers *answers, Step ***stopped)
{
    Core *core = replay->core;
    const Memo *memo = block->memo;
    for (uint32_t i = 0; i < memo->asking_count; i++) {
        Step *step = *place;
        if (!step)
            break;
        uint32_t index = memo->asking[i];
        uint64_t delay = core_ask_memory(core, &block->operations[index], index, &answers->access, answers->end,
                                         core->now + step->time);
        answers->times[i] = step->time;
        answers->delays[i] = delay;
        answers->known = i + 1;
        place = next_step(replay, step, delay);
    }
    *stopped = place;
    if (!*place || !(*place)->end)
        return false;
    core->now += (*place)->time;
    replay->state = (*place)->end;
    return true;
}

/* Writes down what running the block from `place` on has shown. */
static void remember(Replay *replay, Step **place, const Answers *answers)
{
    for (uint32_t i = answers->known; i < answers->count; i++) {
        if (!*place)
            *place = new_step(replay, answers->times[i]);
        place = next_step(replay, *place, answers->delays[i]);
    }
    *place = new_step(replay, replay->core->now - answers->start);
    (*place)->end = replay->state;
}

static bool is_worth_it(Memo *memo)
{
    if (memo->tries == TRIAL) {
        memo->given_up = memo->hits < TRIAL / 4;
        memo->tries = memo->hits = 0;
    }
    return !memo->given_up;
}

void replay_run(Replay *replay, Block *block, const Access *access, uint32_t access_count)
{
    Answers answers;
    answers.access = access;
    answers.end = access + access_count;
    answers.start = replay->core->now;
    answers.known = answers.count = 0;
    Step **place = NULL;
    Memo *memo = memo_of(block);
    if (replay->remember && is_worth_it(memo)) {
        if (replay->bytes > MOST_BYTES) {
            catch_up(replay);
            forget(replay);
        }
        if (!replay->state)
            replay->state = look_up(replay);
        if (replay->state) {
            memo->tries++;
            bool whole = replay_remembered(replay, block, first_step(replay, replay->state, block), &answers, &place);
            if (whole) {
                memo->hits++;
                replay->is_ahead = true;
                return;
            }
        }
    }
    catch_up(replay);
    core_run_with(replay->core, block, &answers);
    replay->state = NULL;
    if (place && (replay->state = look_up(replay)))
        remember(replay, place, &answers);
}

void replay_follow(Replay *replay, const Block *block, const Block *next)
{
    Core *core = replay->core;
    if (core_predicts(core, block, next))
        return;
    State *state = replay->state;
    if (state && state->after_misprediction) {
        core->now += state->misprediction_cycles;
        replay->state = state->after_misprediction;
        replay->is_ahead = true;
        return;
    }
    catch_up(replay);
    uint64_t before = core->now;
    core_mispredict(core);
    replay->state = NULL;
    if (!state || !(replay->state = look_up(replay)))
        return;
    state->after_misprediction = replay->state;
    state->misprediction_cycles = core->now - before;
}

Core *replay_core(Replay *replay)
{
    catch_up(replay);
    replay->state = NULL;
    return replay->core;
}

uint64_t replay_now(const Replay *replay)
{
    return replay->is_ahead ? replay->core->now + replay->state->last_result : core_now(replay->core);
}

Replay *replay_open(Core *core, bool remember)
{
    Replay *replay = calloc(1, sizeof *replay);
    if (!replay)
        return NULL;
    replay->core = core;
    replay->remember = remember;
    replay->buckets = calloc(STATE_BUCKETS, sizeof *replay->buckets);
    return replay->buckets ? replay : NULL;
}
