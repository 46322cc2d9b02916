/* SPDX-License-Identifier: MIT */
#include "memory.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t NO_LINE = UINT64_MAX;

static uint64_t fetch(Memory *, uint32_t level, uint64_t line, uint64_t now);

static Way *set_of(Cache *cache, uint64_t line)
{
    return &cache->ways[(line & cache->set_mask) * cache->associativity];
}

static Way *find(Cache *cache, uint64_t line)
{
    Way *set = set_of(cache, line);
    for (uint32_t i = 0; i < cache->associativity; i++)
        if (set[i].line == line)
            return &set[i];
    return NULL;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* A line written back moves to the next level that has it, else it takes its turn on the bus. */
static void write_back(Memory *memory, uint32_t level, uint64_t line)
{
    Way *below = level + 1 < memory->levels ? find(&memory->caches[level + 1], line) : NULL;
    if (below) {
        below->dirty = true;
        return;
    }
    memory->lines_written++;
    memory->bus_free += memory->dram_line_cycles;
}

static Way *fill(Memory *memory, uint32_t level, uint64_t line, uint64_t arrives)
{
    Cache *cache = &memory->caches[level];
    Way *set = set_of(cache, line), *victim = set;
    for (uint32_t i = 0; i < cache->associativity; i++) {
        if (set[i].line == NO_LINE) {
            victim = &set[i];
            break;
        }
        if (set[i].last_use < victim->last_use)
            victim = &set[i];
    }
    if (victim->line != NO_LINE && victim->dirty)
        write_back(memory, level, victim->line);
    *victim = (Way){.line = line, .arrives = arrives, .last_use = ++memory->uses};
    return victim;
}

static uint64_t read_main_memory(Memory *memory, uint64_t now)
{
    uint64_t start = later(now, memory->bus_free);
    memory->bus_free = start + memory->dram_line_cycles;
    memory->lines_read++;
    return start + memory->dram_latency;
}

/* The cycle at which a line that is needed from `level` on is there; fills the caches on its way. */
static uint64_t fetch(Memory *memory, uint32_t level, uint64_t line, uint64_t now)
{
    if (level == memory->levels)
        return read_main_memory(memory, now);
    Cache *cache = &memory->caches[level];
    Way *way = find(cache, line);
    if (way) {
        cache->hits++;
        way->last_use = ++memory->uses;
        return later(now + cache->latency, way->arrives);
    }
    cache->misses++;
    uint64_t arrives = fetch(memory, level + 1, line, now);
    fill(memory, level, line, arrives);
    return arrives;
}

static void prefetch_after(Memory *memory, uint64_t line, uint64_t now)
{
    for (uint32_t ahead = 1; ahead <= memory->degree; ahead++)
        if (!find(&memory->caches[0], line + ahead))
            fill(memory, 0, line + ahead, fetch(memory, 1, line + ahead, now));
}

/* Follows the stream that a line belongs to, or starts one. Called for misses and for the first use of a line. */
static void train_prefetcher(Memory *memory, uint64_t line, uint64_t now)
{
    for (uint32_t i = 0; i < memory->stream_count; i++) {
        Stream *stream = &memory->streams[i];
        if (line == stream->last_line)
            return;
        /* A stream may skip a line: the two halves of a pair are often used in one go. */
        if (line - stream->last_line > 2)
            continue;
        stream->last_line = line;
        if (++stream->confidence >= memory->confidence)
            prefetch_after(memory, line, now);
        return;
    }
    if (!memory->stream_count)
        return;
    memory->next_stream = (memory->next_stream + 1) % memory->stream_count;
    memory->streams[memory->next_stream] = (Stream){.last_line = line};
}

uint64_t memory_access_slowly(Memory *memory, uint64_t line, bool store, uint64_t now)
{
    Cache *cache = &memory->caches[0];
    Way *way = find(cache, line);
    uint64_t arrives;
    if (way) {
        cache->hits++;
        way->last_use = ++memory->uses;
        way->dirty |= store;
        arrives = later(way->arrives, now);
        way->arrives = 0;
    } else {
        cache->misses++;
        arrives = fetch(memory, 1, line, now);
        way = fill(memory, 0, line, arrives);
        way->dirty = store;
    }
    train_prefetcher(memory, line, now);
    return arrives - now;
}

bool memory_open(Memory *memory, const Model *model)
{
    memory->levels = model->levels;
    for (uint32_t i = 0; i < model->levels; i++) {
        const CacheSize *size = &model->caches[i];
        uint32_t sets = (size->size_bytes >> LINE_BITS) / size->ways;
        memory->caches[i] = (Cache){
            .ways = calloc((size_t)sets * size->ways, sizeof(Way)),
            .set_mask = sets - 1,
            .associativity = size->ways,
            .latency = size->latency,
        };
        if (!memory->caches[i].ways)
            return false;
    }
    memory->dram_latency = model->dram_latency;
    memory->dram_line_cycles = model->dram_line_cycles;
    memory->stream_count = model->prefetch_streams < MOST_STREAMS ? model->prefetch_streams : MOST_STREAMS;
    memory->confidence = model->prefetch_confidence;
    memory->degree = model->prefetch_degree;
    memory_empty(memory);
    return true;
}

void memory_empty(Memory *memory)
{
    for (uint32_t i = 0; i < memory->levels; i++) {
        Cache *cache = &memory->caches[i];
        for (uint64_t way = 0; way < (uint64_t)(cache->set_mask + 1) * cache->associativity; way++)
            cache->ways[way] = (Way){.line = NO_LINE};
    }
    for (uint32_t i = 0; i < MOST_STREAMS; i++)
        memory->streams[i] = (Stream){.last_line = NO_LINE - 8};
    memory->next_stream = 0;
    memory->bus_free = 0;
}
