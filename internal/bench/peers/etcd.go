package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"go.etcd.io/etcd/api/v3/version"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

var etcdKind = Kind{Name: "etcd", Check: "transaction on the version of the stream's head", Start: startEtcd}

// etcdPeer keeps a key an event, below the stream's name, and a head for each stream.
type etcdPeer struct {
	server *child
	client *clientv3.Client
}

func startEtcd(ctx context.Context, dir string) (Peer, string, error) {
	server, port, err := startSelf(ctx, dir, "etcd")
	if err != nil {
		return nil, "", err
	}
	p := &etcdPeer{server: server}
	if p.client, err = clientv3.New(clientv3.Config{Endpoints: []string{loopback(port)}, Logger: zap.NewNop()}); err != nil {
		return nil, "", errors.Join(fmt.Errorf("connect to etcd: %w", err), p.Close())
	}
	return p, version.Version, nil
}

// serveEtcd runs the server until it is told to stop.
func serveEtcd(ctx context.Context, dir string, port int) error {
	c := embed.NewConfig()
	c.Dir = dir + "/etcd"
	c.LogLevel = "error"
	c.MaxTxnOps = 1024
	c.QuotaBackendBytes = 16 << 30
	here := []url.URL{{Scheme: "http", Host: loopback(port)}}
	c.ListenClientUrls, c.AdvertiseClientUrls = here, here
	peerPort, err := freePort()
	if err != nil {
		return err
	}
	there := []url.URL{{Scheme: "http", Host: loopback(peerPort)}}
	c.ListenPeerUrls, c.AdvertisePeerUrls = there, there
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	defer e.Close()
	<-ctx.Done()
	return nil
}

func (p *etcdPeer) Append(ctx context.Context, stream string, at Place, payloads [][]byte) (Place, error) {
	head := "h/" + stream
	next := at.Version + uint64(len(payloads))
	was := clientv3.Compare(clientv3.Value(head), "=", strconv.FormatUint(at.Version, 10))
	if at.Version == 0 {
		was = clientv3.Compare(clientv3.CreateRevision(head), "=", 0)
	}
	ops := []clientv3.Op{clientv3.OpPut(head, strconv.FormatUint(next, 10))}
	for i, b := range payloads {
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("e/%s/%012d", stream, at.Version+uint64(i)+1), string(b)))
	}
	answer, err := p.client.Txn(ctx).If(was).Then(ops...).Commit()
	if err != nil {
		return at, fmt.Errorf("append to etcd: %w", err)
	}
	if !answer.Succeeded {
		return at, fmt.Errorf("append to etcd: stream %s is not at version %d", stream, at.Version)
	}
	at.Version = next
	return at, nil
}

func (p *etcdPeer) Load(ctx context.Context, stream string) (int, error) {
	answer, err := p.client.Get(ctx, "e/"+stream+"/", clientv3.WithPrefix())
	if err != nil {
		return 0, fmt.Errorf("load from etcd: %w", err)
	}
	return len(answer.Kvs), nil
}

// ReadAll reads by key, a page at a time: etcd has no order over all keys by revision that it could page through.
func (p *etcdPeer) ReadAll(ctx context.Context) (int, error) {
	const page = 5000
	n, from := 0, "e/"
	for {
		answer, err := p.client.Get(ctx, from, clientv3.WithRange("f"), clientv3.WithLimit(page))
		if err != nil {
			return n, fmt.Errorf("read from etcd: %w", err)
		}
		n += len(answer.Kvs)
		if !answer.More {
			return n, nil
		}
		from = string(answer.Kvs[len(answer.Kvs)-1].Key) + "\x00"
	}
}

func (p *etcdPeer) Close() error {
	var err error
	if p.client != nil {
		err = p.client.Close()
	}
	return errors.Join(err, p.server.stop())
}
