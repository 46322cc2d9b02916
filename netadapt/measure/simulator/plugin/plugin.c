/* SPDX-License-Identifier: MIT
 *
 * QEMU plugin that gives a guest program the clock of a named core.
 *
 *     qemu-aarch64 -plugin timing.so,model=CORE.model,capstone=LIBCAPSTONE,report=REPORT.json[,replay=off][,serves=on]
 *         PROGRAM
 *
 * QEMU tells about each block of instructions when it translates it, about each execution of a block, and about each
 * access to memory. An executed block is timed when the next one starts, because only then all its accesses are known.
 * Before the first mark (see marks.h) nothing is instrumented and the program runs at QEMU's full speed; only what
 * system calls tell of the host is replaced (see shown.h), from the first one on. A program that `serves` forks a
 * process that measures, and is itself shown the host from then on: it needs a clock.
 */
#include "marks.h"
#include "qemu_plugin.h"
#include "replay.h"
#include "report.h"
#include "shown.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = 1;

enum {
    CLONE = 220, /* number of the system call on AArch64 */
    /* Most lines that one block can touch: 512 instructions, each with up to 64 bytes of 1-byte elements. */
    MOST_ACCESSES = 512 * 64,
    NANOSECONDS_A_CYCLE = 1000,
};

/* QEMU's interface has no user data for most callbacks, so the state of the one core lies here. */
static struct {
    const char *report;
    Model *model;
    Translator *translator;
    Core *core;
    Replay *replay;

    bool instrumented, simulating, counting, shows_cycles, several_threads;
    Counters begin;
    uint64_t bytes_loaded, bytes_stored;

    Block *pending; /* executed, but not timed yet */
    Access accesses[MOST_ACCESSES];
    uint32_t access_count;

    Block **blocks;
    uint32_t block_count, block_capacity;

    uint64_t guest_base; /* host address of the guest's address 0 */
    bool started, serves, shows_host;
    Question question; /* of the system call under way */
} plugin;

static Counters read_counters(void)
{
    const Memory *memory = core_memory(plugin.core);
    Counters counters = {
        .cycles = replay_now(plugin.replay),
        .branches = core_branches(plugin.core),
        .mispredictions = core_mispredictions(plugin.core),
        .bytes_loaded = plugin.bytes_loaded,
        .bytes_stored = plugin.bytes_stored,
        .lines_read = memory->lines_read,
        .lines_written = memory->lines_written,
    };
    for (uint32_t i = 0; i < memory->levels; i++) {
        counters.cache_hits[i] = memory->caches[i].hits;
        counters.cache_misses[i] = memory->caches[i].misses;
    }
    return counters;
}

static void time_pending(void)
{
    if (!plugin.pending)
        return;
    replay_run(plugin.replay, plugin.pending, plugin.accesses, plugin.access_count);
    plugin.pending->executions++;
    plugin.pending = NULL;
    plugin.access_count = 0;
}

static void on_block(unsigned cpu, void *data)
{
    if (!plugin.simulating)
        return;
    if (cpu) {
        /* There is one core, for the first thread; the report tells that there were others. */
        plugin.several_threads = true;
        return;
    }
    Block *block = data, *before = plugin.pending;
    time_pending();
    if (before)
        replay_follow(plugin.replay, before, block);
    plugin.pending = block;
}

static void note_access(uint32_t index, uint64_t line)
{
    /* QEMU splits a vector access into words; the core makes one access of what lies in one line. */
    if (plugin.access_count) {
        const Access *last = &plugin.accesses[plugin.access_count - 1];
        if (last->index == index && last->line == line)
            return;
    }
    if (plugin.access_count < MOST_ACCESSES)
        plugin.accesses[plugin.access_count++] = (Access){index, line};
}

static void on_access(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
    if (!plugin.simulating || cpu)
        return;
    uint64_t bytes = 1ull << qemu_plugin_mem_size_shift(info);
    if (qemu_plugin_mem_is_store(info))
        plugin.bytes_stored += bytes;
    else
        plugin.bytes_loaded += bytes;
    uint32_t index = (uintptr_t)data;
    for (uint64_t line = address >> LINE_BITS; line <= (address + bytes - 1) >> LINE_BITS; line++)
        note_access(index, line);
}

static Block *new_block(const struct qemu_plugin_tb *tb)
{
    uint32_t length = qemu_plugin_tb_n_insns(tb);
    Block *block = calloc(1, sizeof *block + length * sizeof *block->operations);
    block->address = qemu_plugin_tb_vaddr(tb);
    block->length = length;
    block->identity = (uint32_t)(block->address >> 2) * 31 + length;
    block->words = calloc(length, sizeof *block->words);
    if (plugin.block_count == plugin.block_capacity) {
        plugin.block_capacity = plugin.block_capacity ? 2 * plugin.block_capacity : 4096;
        plugin.blocks = realloc(plugin.blocks, plugin.block_capacity * sizeof *plugin.blocks);
    }
    plugin.blocks[plugin.block_count++] = block;
    return block;
}

static void note_guest_base(const struct qemu_plugin_tb *tb)
{
    struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, 0);
    plugin.guest_base = (uint64_t)(uintptr_t)qemu_plugin_insn_haddr(instruction) - qemu_plugin_insn_vaddr(instruction);
}

static void on_first_translations(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    note_guest_base(tb);
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    Block *block = new_block(tb);
    for (uint32_t i = 0; i < block->length; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
        uint32_t bits;
        memcpy(&bits, qemu_plugin_insn_data(instruction), sizeof bits);
        block->words[i] = translate_word(plugin.translator, bits);
        block->operations[i] = block->words[i]->operation;
        if (block->operations[i].loads || block->operations[i].stores)
            qemu_plugin_register_vcpu_mem_cb(instruction, on_access, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW,
                                             (void *)(uintptr_t)i);
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS, block);
}

static void begin_region(void)
{
    plugin.simulating = plugin.counting = true;
    core_drain(replay_core(plugin.replay));
    for (uint32_t i = 0; i < plugin.block_count; i++)
        plugin.blocks[i]->executions = 0;
    plugin.begin = read_counters();
}

static void end_region(void)
{
    plugin.simulating = false;
    if (!plugin.counting)
        return;
    plugin.counting = false;
    Counters counters = counters_between(plugin.begin, read_counters());
    if (!report_write(plugin.report, &counters, plugin.model->levels, plugin.blocks, plugin.block_count,
                      plugin.several_threads))
        fprintf(stderr, "netadapt: cannot write %s\n", plugin.report);
}

static void register_idle(qemu_plugin_id_t);
static void register_instrumented(qemu_plugin_id_t);

static void instrument(qemu_plugin_id_t id)
{
    if (plugin.instrumented)
        return;
    plugin.instrumented = true;
    qemu_plugin_reset(id, register_instrumented);
}

static void release(qemu_plugin_id_t id)
{
    if (!plugin.instrumented)
        return;
    plugin.instrumented = plugin.simulating = false;
    qemu_plugin_reset(id, register_idle);
}

/* From the first system call on it is known where the guest's memory lies, and translations need not be seen. */
static void end_start(qemu_plugin_id_t id)
{
    if (plugin.started)
        return;
    plugin.started = true;
    if (!plugin.instrumented)
        qemu_plugin_reset(id, register_idle);
}

static void on_system_call(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t a0, uint64_t a1, uint64_t a2,
                           uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7)
{
    (void)a3, (void)a4, (void)a5, (void)a6, (void)a7;
    if (cpu)
        return;
    time_pending();
    plugin.question = shown_question(number, a0, a1, a2);
    switch (number) {
    case MARK_WARM_UP:
        instrument(id);
        plugin.simulating = true;
        break;
    case MARK_BEGIN:
        instrument(id);
        begin_region();
        break;
    case MARK_END:
        end_region();
        break;
    case MARK_EMPTY:
        memory_empty(core_memory(plugin.core));
        break;
    case MARK_CLOCK:
        plugin.shows_cycles = true;
        break;
    case MARK_RELEASE:
        release(id);
        break;
    }
    end_start(id);
}

/* The simulated time, so that a profiler in the guest reports cycles. */
static struct timespec cycles_as_time(void)
{
    uint64_t time = replay_now(plugin.replay) * NANOSECONDS_A_CYCLE;
    return (struct timespec){.tv_sec = time / 1000000000, .tv_nsec = time % 1000000000};
}

static void note_first_fork(int64_t number, int64_t result)
{
    if (!plugin.serves || number != CLONE)
        return;
    plugin.serves = false;
    plugin.shows_host = result > 0;
}

static void on_system_call_return(qemu_plugin_id_t id, unsigned cpu, int64_t number, int64_t result)
{
    (void)id;
    note_first_fork(number, result);
    if (plugin.shows_host || cpu || result || number != plugin.question.number || !plugin.question.answer)
        return;
    void *answer = (void *)(uintptr_t)(plugin.guest_base + plugin.question.answer);
    if (plugin.shows_cycles && plugin.instrumented && shown_is_time(&plugin.question))
        shown_write_time(answer, cycles_as_time());
    else
        shown_replace(&plugin.question, answer);
}

static void register_start(qemu_plugin_id_t id)
{
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_first_translations);
    register_idle(id);
}

static void register_idle(qemu_plugin_id_t id)
{
    qemu_plugin_register_vcpu_syscall_cb(id, on_system_call);
    qemu_plugin_register_vcpu_syscall_ret_cb(id, on_system_call_return);
}

static void register_instrumented(qemu_plugin_id_t id)
{
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    register_idle(id);
}

/* The value of "NAME=VALUE" among the arguments, or NULL. */
static const char *argument(int count, char **arguments, const char *name)
{
    size_t length = strlen(name);
    for (int i = 0; i < count; i++)
        if (!strncmp(arguments[i], name, length) && arguments[i][length] == '=')
            return strdup(arguments[i] + length + 1);
    return NULL;
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    char error[512] = "arguments model=, capstone= and report= are needed";
    const char *model = argument(argc, argv, "model"), *capstone = argument(argc, argv, "capstone");
    plugin.report = argument(argc, argv, "report");
    if (model && capstone && plugin.report && (plugin.model = model_read(model, error, sizeof error)) &&
        (plugin.translator = translator_open(plugin.model, capstone, error, sizeof error))) {
        const char *replay = argument(argc, argv, "replay"), *serves = argument(argc, argv, "serves");
        plugin.serves = serves && !strcmp(serves, "on");
        plugin.core = core_open(plugin.model);
        if (plugin.core && (plugin.replay = replay_open(plugin.core, !replay || strcmp(replay, "off")))) {
            register_start(id);
            return 0;
        }
        snprintf(error, sizeof error, "not enough memory");
    }
    fprintf(stderr, "netadapt: %s\n", error);
    return -1;
}
