#include "tests/amx/amx_forms.h"

_Static_assert(sizeof(struct amx_form) == 32, "struct amx_form is what form_at writes");

/*
 * .macro memory NAME INSTRUCTION BEFORE AFTER: all memory operands of an instruction, BEFORE and AFTER being its tile operand on
 * either side of it. An index that is not written is number 4, which is how the encoding says it.
 */
__asm__(
    ".pushsection .rodata\n"
    ".macro form_at b, i, s, d, instruction:vararg\n"
    "    .balign 32, 0\n"
    "    .byte 12f - 11f, \\b, \\i, \\s\n"
    "    .long \\d\n"
    "11: \\instruction\n"
    "12:\n"
    ".endm\n"

    ".macro memory name, instruction, before, after\n"
    "    .balign 32, 0\n"
    "    .globl form_\\name\n"
    "    .globl form_\\name\\()_end\n"
    "form_\\name:\n"
    "    .set b_, 0\n"
    "    .irp base, rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15\n"
    "        .irp disp, 0, -128, 4096\n"
    "            .set i_, 0\n"
    "            .irp index, rax, rcx, rdx, rbx, none, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15\n"
    "                .ifc \\index, none\n"
    "                    form_at b_, i_, 0, \\disp, \\instruction \\before \\disp(%\\base) \\after\n"
    "                .else\n"
    "                    form_at b_, i_, 0, \\disp, \\instruction \\before \\disp(%\\base, %\\index, 1) \\after\n"
    "                    form_at b_, i_, 1, \\disp, \\instruction \\before \\disp(%\\base, %\\index, 2) \\after\n"
    "                    form_at b_, i_, 2, \\disp, \\instruction \\before \\disp(%\\base, %\\index, 4) \\after\n"
    "                    form_at b_, i_, 3, \\disp, \\instruction \\before \\disp(%\\base, %\\index, 8) \\after\n"
    "                .endif\n"
    "                .set i_, i_ + 1\n"
    "            .endr\n"
    "        .endr\n"
    "        .set b_, b_ + 1\n"
    "    .endr\n"
    "    form_at 16, 4, 0, 0x20080000, \\instruction \\before 0x20080000 \\after\n"
    "    .set i_, 0\n"
    "    .irp index, rax, rcx, rdx, rbx, none, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15\n"
    "        .ifnc \\index, none\n"
    "            form_at 16, i_, 0, 0x20080000, \\instruction \\before 0x20080000(, %\\index, 1) \\after\n"
    "            form_at 16, i_, 3, 0x20080000, \\instruction \\before 0x20080000(, %\\index, 8) \\after\n"
    "        .endif\n"
    "        .set i_, i_ + 1\n"
    "    .endr\n"
    "    .balign 32, 0\n"
    "form_\\name\\()_end:\n"
    ".endm\n"

    ".macro dot name\n"
    "    .balign 32, 0\n"
    "    .globl form_\\name\n"
    "    .globl form_\\name\\()_end\n"
    "form_\\name:\n"
    "    .irp dst, 0, 1, 2, 3, 4, 5, 6, 7\n"
    "        .irp src1, 0, 1, 2, 3, 4, 5, 6, 7\n"
    "            .irp src2, 0, 1, 2, 3, 4, 5, 6, 7\n"
    "                .if (\\dst - \\src1) * (\\dst - \\src2) * (\\src1 - \\src2)\n"
    "                    form_at \\dst, \\src1, \\src2, 0, \\name %tmm\\src2, %tmm\\src1, %tmm\\dst\n"
    "                .endif\n"
    "            .endr\n"
    "        .endr\n"
    "    .endr\n"
    "    .balign 32, 0\n"
    "form_\\name\\()_end:\n"
    ".endm\n"

    "memory tileloadd, tileloadd, , \", %tmm3\"\n"
    "memory tileloaddt1, tileloaddt1, , \", %tmm3\"\n"
    "memory tilestored, tilestored, \"%tmm3, \", \n"
    "memory ldtilecfg, ldtilecfg, ,\n"
    "memory sttilecfg, sttilecfg, ,\n"
    "dot tdpbssd\n"
    "dot tdpbsud\n"
    "dot tdpbusd\n"
    "dot tdpbuud\n"
    "dot tdpbf16ps\n"
    "    .balign 32, 0\n"
    "    .globl form_tilezero\n"
    "    .globl form_tilezero_end\n"
    "form_tilezero:\n"
    "    .irp tile, 0, 1, 2, 3, 4, 5, 6, 7\n"
    "        form_at \\tile, 0, 0, 0, tilezero %tmm\\tile\n"
    "    .endr\n"
    "    .balign 32, 0\n"
    "form_tilezero_end:\n"
    ".popsection\n");

#define FORMS(name) \
    extern const struct amx_form form_##name[], form_##name##_end[]; \
    struct amx_forms forms_##name(void) \
    { \
        return (struct amx_forms){ form_##name, (size_t)(form_##name##_end - form_##name) }; \
    }

FORMS(tileloadd)
FORMS(tileloaddt1)
FORMS(tilestored)
FORMS(ldtilecfg)
FORMS(sttilecfg)
FORMS(tilezero)
FORMS(tdpbssd)
FORMS(tdpbsud)
FORMS(tdpbusd)
FORMS(tdpbuud)
FORMS(tdpbf16ps)

struct amx_forms forms_dot(enum amx_dot op)
{
    switch (op) {
    case AMX_TDPBSSD:
        return forms_tdpbssd();
    case AMX_TDPBSUD:
        return forms_tdpbsud();
    case AMX_TDPBUSD:
        return forms_tdpbusd();
    case AMX_TDPBUUD:
        return forms_tdpbuud();
    default:
        return forms_tdpbf16ps();
    }
}
