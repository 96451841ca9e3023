package cluster

import (
	"os"
	"runtime"
)

func DEBUGDUMP() {
	b := make([]byte, 16<<20)
	n := runtime.Stack(b, true)
	_ = os.WriteFile("/tmp/stacks.txt", b[:n], 0o644)
}
