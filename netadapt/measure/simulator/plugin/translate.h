/* SPDX-License-Identifier: MIT
 *
 * Instruction words to operations of the core at hand. Each word is decoded once in the life of the process, and a
 * process forked from it inherits what was decoded.
 */
#ifndef NETADAPT_TRANSLATE_H
#define NETADAPT_TRANSLATE_H

#include "core.h"

typedef struct Word {
    uint32_t bits;
    bool modelled; /* the core's table has this form */
    Instruction instruction;
    Operation operation;
} Word;

typedef struct Translator Translator;

/* Returns NULL and writes a message into `error` when Capstone cannot be used. */
Translator *translator_open(const Model *, const char *capstone, char *error, int error_length);

const Word *translate_word(Translator *, uint32_t bits);

#endif
