// Command cri-image pulls, lists and removes images through a container
// runtime's CRI socket. A pull made this way is the same as the kubelet's own:
// same registry settings, same handling of unpacked layers, which `ctr` has not.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func main() {
	socket := flag.String("socket", "/run/containerd/containerd.sock", "path of the CRI socket")
	timeout := flag.Duration("timeout", 30*time.Minute, "deadline of the whole command")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	if err := run(ctx, *socket, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, socket string, args []string) error {
	connection, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	images := cri.NewImageServiceClient(connection)
	switch {
	case len(args) == 2 && args[0] == "pull":
		reply, err := images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: args[1]}})
		if err != nil {
			return err
		}
		fmt.Println(reply.ImageRef)
		return nil
	case len(args) == 2 && args[0] == "remove":
		_, err := images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: args[1]}})
		return err
	case len(args) == 1 && args[0] == "list":
		reply, err := images.ListImages(ctx, &cri.ListImagesRequest{})
		if err != nil {
			return err
		}
		for _, image := range reply.Images {
			fmt.Println(image.Id, image.Size, strings.Join(image.RepoTags, ","))
		}
		return nil
	}
	return fmt.Errorf("found arguments %q, expected: pull IMAGE | remove IMAGE | list", args)
}
