"""Small networks of the pruning literature, plain and readable."""

from secateur.demo.networks.lenet import LeNet5, LeNet300
from secateur.demo.networks.mobilenet import MobileNetSlim
from secateur.demo.networks.resnet import ResNet
from secateur.demo.networks.vgg import VGGSlim

__all__ = ["LeNet5", "LeNet300", "MobileNetSlim", "ResNet", "VGGSlim"]
