/*
 * Counts what an emulated program executes between marks.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A plugin of QEMU's user-mode emulator (TCG plugin API, version 1, as in QEMU 7.2). The program under
 * emulation sets a mark by calling close() on the descriptor MARK + k, which no program has open: the
 * kernel answers EBADF and the plugin writes one line of JSON,
 *
 *     {"mark": k, "instructions": N, "memory_accesses": M}
 *
 * with the counts since the program began. The host subtracts.
 *
 *     cc -O2 -shared -fPIC -o counter.so counter.c
 *     qemu-aarch64 -plugin counter.so,out=FILE program ...
 *
 * Instructions are counted block by block: a block left early through a fault counts whole. Both
 * counters are plain 64-bit additions inside the translated code: exact for one thread, not for more.
 * QEMU's header is not needed: the declarations used of it follow.
 */

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define MARK 1000000u
#define MARKS 1000000u
#define AARCH64_CLOSE 57 /* include/uapi/asm-generic/unistd.h */
#define API_VERSION 1

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info; /* its content is not used */

enum inline_operation { INLINE_ADD_U64 = 0 };
enum memory_direction { READS_AND_WRITES = 3 };

typedef void (*translated_fn)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*syscall_fn)(qemu_plugin_id_t, unsigned int vcpu, int64_t number, uint64_t, uint64_t, uint64_t,
                           uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated_fn);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, syscall_fn);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum inline_operation, void *, uint64_t);
void qemu_plugin_register_vcpu_mem_inline(struct qemu_plugin_insn *, enum memory_direction, enum inline_operation,
                                          void *, uint64_t);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);

EXPORT int qemu_plugin_version = API_VERSION;

static uint64_t instructions;
static uint64_t memory_accesses;
static int output = -1;

static void on_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    size_t count = qemu_plugin_tb_n_insns(block);
    qemu_plugin_register_vcpu_tb_exec_inline(block, INLINE_ADD_U64, &instructions, count);
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        qemu_plugin_register_vcpu_mem_inline(instruction, READS_AND_WRITES, INLINE_ADD_U64, &memory_accesses, 1);
    }
}

static void on_syscall(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t first, uint64_t b, uint64_t c,
                       uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)vcpu, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number != AARCH64_CLOSE || first < MARK || first >= MARK + MARKS) {
        return;
    }
    char line[128];
    int length = snprintf(line, sizeof line,
                          "{\"mark\": %llu, \"instructions\": %llu, \"memory_accesses\": %llu}\n",
                          (unsigned long long)(first - MARK), (unsigned long long)instructions,
                          (unsigned long long)memory_accesses);
    if (length > 0 && write(output, line, (size_t)length) != length) {
        output = -1; /* a short file is noticed by whoever reads it */
    }
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            output = open(argv[i] + 4, O_CREAT | O_WRONLY | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
        }
    }
    if (output < 0) {
        fprintf(stderr, "counter: give a writable file: -plugin counter.so,out=FILE\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    return 0;
}
