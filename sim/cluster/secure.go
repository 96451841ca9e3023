package cluster

import (
	"fmt"
	"io/fs"
	"sync"
	"time"

	"deckle/node/config"
	"deckle/trust/pki"
)

// secureSeeds is of how many seeds one has TLS between the nodes. Such a run has no repeated requests, because nobody
// on the way can read what would be one.
const secureSeeds = 5

// mostMembers is how many nodes have certificates.
const mostMembers = 3

// certificates are the files of cluster.tls of all simulated nodes, by path. Every run may have the same: what is in
// them is of no matter. They hold for a hundred years, because clocks jump.
var certificates = sync.OnceValue(func() map[string][]byte {
	since, files := time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), map[string][]byte{}
	ca, err := pki.NewCA("deckle", since, pki.MaxDays)
	if err == nil {
		files["ca.pem"], _, err = ca.PEM()
	}
	for i := 0; i < mostMembers && err == nil; i++ {
		name := nodeName(i)
		files[name+".pem"], files[name+"-key.pem"], err = ca.Node("deckle", name, nil, since, pki.MaxDays)
	}
	if err != nil {
		panic(fmt.Sprintf("certificates of simulated nodes: %v", err))
	}
	return files
})

// readCertificate reads a file of a TLS block of a simulated node.
func readCertificate(path string) ([]byte, error) {
	if b, ok := certificates()[path]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

// secured is the block of a node.
func secured(name string) *config.TLS {
	return &config.TLS{CA: "ca.pem", Cert: name + ".pem", Key: name + "-key.pem"}
}
