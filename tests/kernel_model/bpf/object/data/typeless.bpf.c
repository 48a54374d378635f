#define SEC(n) __attribute__((section(n), used))
extern const void init_task SEC(".ksyms");
SEC("socket") int address(void *ctx) { return (long)&init_task; }
