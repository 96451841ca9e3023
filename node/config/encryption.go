package config

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Encryption seals the data folder; nil leaves it plain. What is in it is read at start, and once.
type Encryption struct {
	// Keys are files with one key each. The first seals new files, all open old ones.
	Keys []KeyFile `yaml:"keys"`
	// PlainFiles is refuse, or accept: a folder that was in use before it had keys is read as it is, and sealed file by
	// file. It is said here because whoever can write to the folder could change whatever stood there.
	PlainFiles string `yaml:"plain_files" default:"refuse" enum:"refuse,accept"`
	// NewFiles is encrypted, or plain: the way back, which leaves the first key in use until all is rewritten.
	NewFiles string `yaml:"new_files" default:"encrypted" enum:"encrypted,plain"`
}

// KeyFile names a file with a key: of Encryption one that deckle encryption keygen has made.
type KeyFile struct {
	File string `yaml:"file"` // its path
}

// wrong tells add what is wrong with it, for a node whose data folder and local lake (or "") these are.
func (e *Encryption) wrong(dataDir, lake string, add func(key, format string, args ...any)) {
	if e == nil {
		return
	}
	if len(e.Keys) == 0 {
		add("encryption.keys", "is missing: give at least one key file, e.g. keys: [{file: /etc/deckle/key}]; "+
			"make it with deckle encryption keygen --out /etc/deckle/key")
	}
	seen := map[string]bool{}
	for i, f := range e.Keys {
		key := fmt.Sprintf("encryption.keys[%d].file", i)
		switch {
		case f.File == "":
			add(key, "is missing: a file with a key")
		case seen[f.File]:
			add(key, "names %s a second time", f.File)
		case strings.HasPrefix(filepath.Clean(f.File), filepath.Clean(dataDir)+string(filepath.Separator)):
			add(key, "lies in data_dir: whoever has that folder would have its key")
		}
		seen[f.File] = true
	}
	if lake != "" && filepath.Clean(lake) == filepath.Clean(dataDir) {
		add("delta.path", "is data_dir, whose files are sealed: give the lake a folder of its own")
	}
}
