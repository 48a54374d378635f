#define SEC(n) __attribute__((section(n), used))
extern int CONFIG_HZ SEC(".kconfig");
SEC("socket") int hz(void *ctx) { return CONFIG_HZ; }
