typedef unsigned int u32; typedef unsigned long long u64;
#define SEC(n) __attribute__((section(n), used))
#define NI __attribute__((noinline))
static int (*dummy_helper)(void) = (void*)7;
int g1 = 5; static volatile int s1 = 3; const volatile int r1 = 9; int data_only SEC(".data.cache") = 4;
char lic[] SEC("license") = "GPL";
NI int gb(int x); 
static NI int sc(int x) { volatile int y = x*3; return y; }
static NI int sa(int x) { return gb(x+1) + sc(x) + s1; }
NI int gb(int x) { volatile int y = x; return sc(y) + r1; }
static NI long cb(u32 i, void *c) { *(int*)c += sc(i); return 0; }
static long (*loop)(u32, void*, void*, u64) = (void*)181;
SEC("tc") int p1(void *ctx) { int k = 0; loop(3, cb, &k, 0); return sa(k) + g1 + data_only; }
SEC("tc") int p2(void *ctx) { return gb(2) + sa(3) + sc(4); }
SEC("socket") int p3(void *ctx) { int k=1; k += sc(k); loop(2, cb, &k, 0); return k + g1; }
