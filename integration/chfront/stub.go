//go:build !cgo || !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "chfront: built without cgo; it needs Linux and a C compiler")
	os.Exit(2)
}
