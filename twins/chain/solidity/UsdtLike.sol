// SPDX-License-Identifier: UNLICENSED
pragma solidity ^0.8.20;

/// Stands at USDT's address on a test chain, with what sets USDT apart: transfers return nothing, a fee can be switched on
/// (the fee is a Transfer log of its own in the same transaction), a frozen account can still be paid, and its money can
/// be destroyed. Everybody may do all of it, because everybody who reaches a test chain owns it.
contract UsdtLike {
    string public constant name = "Tether USD";
    string public constant symbol = "USDT";
    uint8 public constant decimals = 6;
    address public constant feeCollector = 0x00000000000000000000000000000000fEE00001;

    uint256 public totalSupply;
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;
    mapping(address => bool) public isBlackListed;
    bool public paused;
    uint256 public basisPointsRate;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);
    event AddedBlackList(address account);
    event RemovedBlackList(address account);
    event DestroyedBlackFunds(address account, uint256 value);
    event Params(uint256 feeBasisPoints, uint256 maxFee);
    event Pause();
    event Unpause();

    function mint(address to, uint256 value) external {
        totalSupply += value;
        balanceOf[to] += value;
        emit Transfer(address(0), to, value);
    }

    function transfer(address to, uint256 value) external {
        move(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) external {
        allowance[from][msg.sender] -= value;
        move(from, to, value);
    }

    function approve(address spender, uint256 value) external {
        require(value == 0 || allowance[msg.sender][spender] == 0, "set the allowance to zero first");
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
    }

    function setFee(uint256 basisPoints) external {
        require(basisPoints <= 10_000, "a fee above the amount");
        basisPointsRate = basisPoints;
        emit Params(basisPoints, type(uint256).max);
    }

    function addBlackList(address account) external {
        isBlackListed[account] = true;
        emit AddedBlackList(account);
    }

    function removeBlackList(address account) external {
        isBlackListed[account] = false;
        emit RemovedBlackList(account);
    }

    function destroyBlackFunds(address account) external {
        require(isBlackListed[account], "account is not blacklisted");
        uint256 value = balanceOf[account];
        balanceOf[account] = 0;
        totalSupply -= value;
        emit DestroyedBlackFunds(account, value);
    }

    function pause() external {
        paused = true;
        emit Pause();
    }

    function unpause() external {
        paused = false;
        emit Unpause();
    }

    /// The receiver gets the value less the fee: its log shows that, the call data does not.
    function move(address from, address to, uint256 value) private {
        require(!paused, "paused");
        require(!isBlackListed[from], "account is blacklisted");
        uint256 fee = (value * basisPointsRate) / 10_000;
        balanceOf[from] -= value;
        balanceOf[to] += value - fee;
        emit Transfer(from, to, value - fee);
        if (fee > 0) {
            balanceOf[feeCollector] += fee;
            emit Transfer(from, feeCollector, fee);
        }
    }
}
