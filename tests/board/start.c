/* tests/board/start.c    a Cortex-M4 from reset to main and out again: vectors, FPU, data, and QEMU's
   semihosting for the status. No C library is started. */
#include <stdint.h>

extern uint32_t stack_top[], data_begin[], data_end[], data_image[], bss_begin[], bss_end[];
int main(void);

static void leave(int status)
{
    uint32_t block[2] = { 0x20026, (uint32_t)status };      /* ADP_Stopped_ApplicationExit */
    register uint32_t operation __asm__("r0") = 0x20;       /* SYS_EXIT_EXTENDED */
    register uint32_t *argument __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : : "r"(operation), "r"(argument) : "memory");
    for (;;) { }
}

static void fault(void) { leave(100); }

void reset(void)
{
    uint32_t *to, *from = data_image;
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20;         /* CPACR: full access to the FPU */
    __asm__ volatile("dsb\n isb");
    for (to = data_begin; to < data_end;) *to++ = *from++;
    for (to = bss_begin; to < bss_end;) *to++ = 0;
    leave(main());
}

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {
    stack_top, (const void *)reset, (const void *)fault, (const void *)fault, (const void *)fault,
        (const void *)fault,
    (const void *)fault
};
