/* SPDX-License-Identifier: MIT
 *
 * What the timing model needs to know about one AArch64 instruction, told by Capstone from its 32 bits alone.
 */
#ifndef NETADAPT_DECODE_H
#define NETADAPT_DECODE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    /* Register numbers of the timing model: x0-x30, sp, v0-v31 (whatever width is used of them), and the flags. */
    REGISTER_SP = 31,
    REGISTER_V0 = 32,
    REGISTER_FLAGS = 64,
    REGISTERS = 65,
    NO_REGISTER = 255,

    MOST_SOURCES = 8,
    MOST_DESTINATIONS = 6,
    FORM_LENGTH = 64,
};

/* Classes of the instruction mix and of the energy model. */
typedef enum {
    CLASS_INTEGER,
    CLASS_LOAD,
    CLASS_STORE,
    CLASS_BRANCH,
    CLASS_FP_FMA,     /* fused multiply-add: two operations a lane */
    CLASS_FP_OTHER,   /* other floating-point arithmetic, comparisons and conversions */
    CLASS_SIMD_OTHER, /* moves, permutations and integer arithmetic on vector registers */
    CLASSES,
} Class;

typedef struct {
    /* Mnemonic and shapes of the operands, such as "fmla v.4s v.4s v.s[]" or "ldr q [x #]!": the key of a core's
     * table of latencies. Two instructions of one form cost the same on every core we know. */
    char form[FORM_LENGTH];
    uint8_t sources[MOST_SOURCES], source_count;
    uint8_t destinations[MOST_DESTINATIONS], destination_count;
    /* The register that pre- or post-indexed addressing writes back: ready before the loaded data. */
    uint8_t written_back;
    /* The addend of a multiply-accumulate, which cores read later than the factors. It is also the last of
     * the sources, there twice if it is a factor, too. */
    uint8_t accumulator;
    uint8_t class;
    /* Elements that the instruction computes: 4 for a .4s vector, 1 for a scalar; 0 unless it is of one of the last
     * three classes. */
    uint8_t lanes;
    bool loads, stores, branches;
} Instruction;

typedef struct Decoder Decoder;

/* Opens Capstone's shared library. Returns NULL and writes a message into `error` when it cannot be used. */
Decoder *decoder_open(const char *library, char *error, int error_length);
void decoder_close(Decoder *);

/* False when Capstone does not know the word; `form` is then "word XXXXXXXX". */
bool decode(Decoder *, uint32_t word, Instruction *);

#endif
