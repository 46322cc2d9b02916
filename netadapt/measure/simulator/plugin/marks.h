/* SPDX-License-Identifier: MIT
 *
 * System calls, of numbers that no kernel has, by which a program in the guest tells the plugin what to do. The kernel
 * answers them with an error, which the program ignores. `in_guest/marks.py` has the same numbers.
 */
#ifndef NETADAPT_MARKS_H
#define NETADAPT_MARKS_H

enum {
    MARK_BEGIN = 0x4D4B0001,   /* a region begins: counters start from zero, caches stay as they are */
    MARK_END = 0x4D4B0002,     /* it ends: the report is written, and replaces an older one */
    MARK_WARM_UP = 0x4D4B0003, /* simulate without a report, so that caches and predictors fill */
    MARK_EMPTY = 0x4D4B0004,   /* empty the caches */
    MARK_CLOCK = 0x4D4B0005,   /* from now on clock_gettime shows simulated cycles, one as a microsecond */
    MARK_RELEASE = 0x4D4B0006, /* go back to running without the plugin, as before the first mark */
};

#endif
