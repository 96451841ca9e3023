package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"deckle/node/access"
)

// lockWithin is how long a command waits for others that change the same file of tokens.
const lockWithin = 10 * time.Second

// readTokens reads a file of tokens.
func readTokens(file string) ([]*access.Token, error) {
	if file == "" {
		return nil, usageError{errors.New("--file FILE is missing: the file that http.auth.tokens names")}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	tokens, err := access.ParseTokens(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return tokens, nil
}

// changeTokens puts what change makes of the tokens of a file in their place. A file that does not exist has none, and
// is made if create is set. Of several commands at once each sees what the others have done: a token that somebody was
// given must not be lost, nor one come back that was revoked.
func changeTokens(
	ctx context.Context, file string, create bool, change func([]*access.Token) ([]*access.Token, error),
) error {
	if file == "" {
		_, err := readTokens(file)
		return err
	}
	if whole, err := filepath.EvalSymlinks(file); err == nil { // a link stays one
		file = whole
	}
	for deadline := time.Now().Add(lockWithin); ; {
		done, err := tryChange(file, create, change)
		if done || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: another command has been changing it for %s, or it is a link that leads nowhere",
				file, lockWithin)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tryChange does so unless somebody else is at it. The lock is that of the file itself, which whoever may not read the
// tokens cannot take. It does not count if another file has come in its place meanwhile.
func tryChange(
	file string, create bool, change func([]*access.Token) ([]*access.Token, error),
) (done bool, err error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) && create {
		tokens, err := change(nil)
		if err == nil {
			err = writeTokens(file, tokens, nil)
		}
		if errors.Is(err, fs.ErrExist) { // somebody was quicker
			return false, nil
		}
		return err == nil, err
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	locked, err := tryLock(f)
	if err != nil || !locked {
		return false, err
	}
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	now, err := os.Stat(file)
	if err != nil || !os.SameFile(mine, now) {
		return false, err
	}
	tokens, err := readTokens(file)
	if err == nil {
		tokens, err = change(tokens)
	}
	if err == nil {
		err = writeTokens(file, tokens, mine)
	}
	return err == nil, err
}

// writeTokens puts a file in place whole, so that no node reads half of it, for this user alone, or for those who could
// read the one in whose place it comes, old. Without old there must be none: the error is fs.ErrExist otherwise.
func writeTokens(file string, tokens []*access.Token, old fs.FileInfo) (err error) {
	if len(tokens) > access.MaxTokens {
		return fmt.Errorf("%s would have more than %d tokens", file, access.MaxTokens)
	}
	text, err := access.FormatTokens(tokens)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // of mode 0600
	if err != nil {
		return err
	}
	name := tmp.Name()
	defer func() {
		if name != "" {
			err = errors.Join(err, os.Remove(name))
		}
	}()
	if old != nil {
		if err := errors.Join(keepOwner(tmp, old), tmp.Chmod(old.Mode().Perm())); err != nil {
			return errors.Join(err, tmp.Close())
		}
	}
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if old == nil {
		return os.Link(name, file) // which takes no other file's place
	}
	if err = os.Rename(name, file); err == nil {
		name = ""
	}
	return err
}
