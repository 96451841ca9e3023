package shard

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"deckle/sinks"
)

// Classes of a sink's errors, the label of deckle_sink_errors_total.
const (
	classStopped    = "stopped"    // a person is needed
	classRow        = "row"        // the destination refuses one row, which becomes a dead letter
	classUnreadable = "unreadable" // Kafka does not give a record again
	classTimeout    = "timeout"    // no answer in time
	classNetwork    = "network"    // no connection, or one that broke
	classDisk       = "disk"       // no room, or an error of a disk of this machine
	classAnswer     = "answer"     // everything else: the destination has answered with an error
)

func classes() []string {
	return []string{classStopped, classRow, classUnreadable, classTimeout, classNetwork, classDisk, classAnswer}
}

// classOf returns the class of an error with which a sink was opened or written.
func classOf(err error) string {
	if _, ok := errors.AsType[*sinks.StopError](err); ok {
		return classStopped
	}
	if _, ok := errors.AsType[*sinks.RefusedError](err); ok {
		return classRow
	}
	if _, ok := errors.AsType[*sinks.UnreadableError](err); ok {
		return classUnreadable
	}
	if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, os.ErrDeadlineExceeded) {
		return classTimeout
	}
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS} {
		if errors.Is(err, full) {
			return classDisk
		}
	}
	if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) {
		return classNetwork
	}
	return classAnswer
}
