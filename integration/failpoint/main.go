// Command failpoint makes a build overlay that switches on the failpoints of this module, and prints its path:
//
//	go build -overlay "$(go run ./integration/failpoint -o DIR)" -o DIR/deckle ./cmd/deckle
//	go test  -overlay "$(go run ./integration/failpoint -o DIR)" ./sinks/delta
//
// See package overlay for what it does.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"deckle/integration/failpoint/overlay"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "failpoint:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	f := flag.NewFlagSet("failpoint", flag.ContinueOnError)
	root := f.String("root", ".", "the module's root folder")
	dir := f.String("o", "", "the folder to write to (required); what it holds is replaced")
	list := f.Bool("list", false, "print the failpoints and where they stand, too")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *dir == "" || f.NArg() > 0 {
		return fmt.Errorf("usage: go run ./integration/failpoint -o DIR [-root DIR] [-list]; what is too much: %q",
			strings.Join(f.Args(), " "))
	}
	o, err := overlay.Write(*root, *dir)
	if err != nil {
		return err
	}
	fmt.Println(o.Path)
	if *list {
		for _, p := range o.Points {
			fmt.Printf("%s\t%s\n", p.Name, p.File)
		}
	}
	return nil
}
