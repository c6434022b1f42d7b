/* tests/board/start.c    a Cortex-M4 from reset to main and out again: vectors, FPU, data, and QEMU's semihosting for the status
   and for how much of the stack was used ("stack 1234"). No C library is started. */
#include <stdint.h>

extern uint32_t stack_top[], data_begin[], data_end[], data_image[], bss_begin[], bss_end[];
int main(void);

static void ask_host(uint32_t what, const void *with)
{
    register uint32_t operation __asm__("r0") = what;
    register const void *argument __asm__("r1") = with;
    __asm__ volatile("bkpt 0xab" : "+r"(operation) : "r"(argument) : "memory");
}

static void leave(int status)
{
    uint32_t block[2] = { 0x20026, (uint32_t)status };      /* ADP_Stopped_ApplicationExit */
    ask_host(0x20, block);                                  /* SYS_EXIT_EXTENDED */
    for (;;) { }
}

/* What lies below the stack is painted before main; what is no longer painted after it was used. */
enum { PAINT = 0x5a5a5a5a };

static void tell_stack(void)
{
    char text[] = "stack 000000\n";
    uint32_t *at = bss_end, used;
    int digit;
    while (*at == PAINT) at++;
    used = (uint32_t)(stack_top - at) * 4;
    for (digit = 11; digit > 5; digit--, used /= 10) text[digit] = (char)('0' + used % 10);
    ask_host(0x04, text);                                   /* SYS_WRITE0 */
}

static void fault(void) { leave(100); }

void reset(void)
{
    uint32_t *to, *from = data_image;
    int status;
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20;         /* CPACR: full access to the FPU */
    __asm__ volatile("dsb\n isb");
    for (to = data_begin; to < data_end;) *to++ = *from++;
    for (to = bss_begin; to < bss_end;) *to++ = 0;
    for (; (void *)to < __builtin_frame_address(0);) *to++ = PAINT;
    status = main();
    tell_stack();
    leave(status);
}

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {
    stack_top, (const void *)reset, (const void *)fault, (const void *)fault, (const void *)fault,
        (const void *)fault,
    (const void *)fault
};
