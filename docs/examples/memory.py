"""What a process sees of its memory: contents, and which signal comes where. images/user/vmcheck.c says how."""


def scenario(kernel):
    result = kernel.run_user("vmcheck")
    lines = result.output.splitlines()
    print(f"{kernel.arch.name}, {kernel.profile.name}: {len(lines)} checks, exit status {result.exit_code}")
    print(*[line for line in lines if "signal 7" in line or "write to " in line][:8], sep="\n")
    return result.exit_code == 0
