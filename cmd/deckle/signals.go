package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// signalContext ends with the first SIGINT or SIGTERM; from then on, a second one calls exit at once. It keeps
// listening instead of giving the signals back to the system: a process that a shell has started in the background
// inherits SIGINT ignored, and giving it back would ignore the second one. stop ends the listening.
func signalContext(parent context.Context, exit func(code int)) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	signals, done := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	quit := make(chan struct{})
	go func() {
		defer close(done)
		for first := true; ; first = false {
			select {
			case s := <-signals:
				if !first {
					exit(exitCode(s))
					return
				}
				cancel()
			case <-quit:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(quit)
		<-done
		cancel()
	}
}

func exitCode(s os.Signal) int {
	if n, ok := s.(syscall.Signal); ok {
		return exitSignal + int(n)
	}
	return exitFailure
}
