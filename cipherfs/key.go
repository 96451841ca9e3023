package cipherfs

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// keyPrefix begins a key file; 43 characters follow.
const keyPrefix = "deckle-key-1:"

// Key is a key of 256 bits. However it is printed, it shows its id only.
type Key struct {
	secret [keyBytes]byte
	id     KeyID
}

// ParseKey reads the content of a key file. The error never shows the content.
func ParseKey(text []byte) (*Key, error) {
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	code, ok := bytes.CutPrefix(text, []byte(keyPrefix))
	if !ok {
		return nil, errKeyFile
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(string(code))
	if err != nil || len(b) != keyBytes || len(code) != 43 {
		return nil, errKeyFile
	}
	k := &Key{secret: [keyBytes]byte(b)}
	mac := hmac.New(sha256.New, k.secret[:])
	mac.Write([]byte(labelID))
	copy(k.id[:], mac.Sum(nil))
	return k, nil
}

// NewKeyFile returns the content of a file with a new random key.
func NewKeyFile() []byte {
	var b [keyBytes]byte
	_, _ = rand.Read(b[:]) // it ends the process rather than fail
	return append([]byte(keyPrefix+base64.RawURLEncoding.EncodeToString(b[:])), '\n')
}

// ID returns the key's id.
func (k *Key) ID() KeyID { return k.id }

// Format prints the key's id, whatever the verb is.
func (k *Key) Format(s fmt.State, _ rune) { _, _ = fmt.Fprintf(s, "key %s", k.id) }

// derive returns AES-256-GCM under a key for one purpose.
func (k *Key) derive(salt []byte, label string) (cipher.AEAD, error) {
	sub, err := hkdf.Key(sha256.New, k.secret[:], salt, label, keyBytes)
	if err != nil {
		return nil, fmt.Errorf("cipherfs: derive a key: %w", err)
	}
	block, err := aes.NewCipher(sub)
	if err != nil {
		return nil, fmt.Errorf("cipherfs: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("cipherfs: %w", err)
	}
	return aead, nil
}
