package shard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"syscall"
	"testing"

	"deckle/sinks"
)

// Each class has an error that gets there, wrapped as libraries wrap theirs.
func TestClassOf(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range []struct {
		err  error
		want string
	}{
		{&sinks.StopError{Err: io.EOF, Hint: "do it"}, classStopped},
		{&sinks.RefusedError{RowKey: "x", Err: errors.New("no")}, classRow},
		{&sinks.UnreadableError{Err: errors.New("damaged")}, classUnreadable},
		{context.DeadlineExceeded, classTimeout},
		{&url.Error{Op: "Put", URL: "x", Err: os.ErrDeadlineExceeded}, classTimeout},
		{&net.DNSError{IsTimeout: true}, classTimeout},
		{&url.Error{Op: "Put", URL: "x", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}, classNetwork},
		{&net.DNSError{IsNotFound: true}, classNetwork},
		{io.ErrUnexpectedEOF, classNetwork},
		{&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, classDisk},
		{errors.New("AccessDenied"), classAnswer},
	} {
		if got := classOf(fmt.Errorf("delta: commit: %w", c.err)); got != c.want {
			t.Errorf("%v is %s, want %s", c.err, got, c.want)
		}
		seen[c.want] = true
	}
	for _, class := range classes() {
		if !seen[class] {
			t.Errorf("nothing shows %s", class)
		}
	}
	if !slices.Contains(classes(), classOf(errors.New("x"))) {
		t.Error("an error has a class that is not in the list")
	}
}
