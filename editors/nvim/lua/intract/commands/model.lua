--- About the model.
local format = require('intract.format')
local say = require('intract.say')
local servers = require('intract.servers')

---@param model table
---@return string
local function cost(model)
  local parts = { model.installed and 'on this machine' or format.size(model.download_bytes) .. ' to download' }
  parts[2] = model.memory_bytes > 0 and format.size(model.memory_bytes) .. ' of memory' or nil
  parts[#parts + 1] = model.default and 'default here' or nil
  return table.concat(parts, ', ')
end

---@param name string
local function load(name)
  servers.execute('intract.selectModel', { name = name }, function(result)
    say.info(result.message)
  end)
end

--- Lets the user choose; a download is asked about, since it takes time and disk.
local function choose()
  servers.execute('intract.selectModel', nil, function(result)
    vim.ui.select(result.models, {
      prompt = 'Model',
      format_item = function(model)
        return ('%s %s (%s)'):format(model.name == result.current and '*' or ' ', model.name, cost(model))
      end,
    }, function(model)
      if not model then
        return
      end
      local question = ('Download %s (%s)?'):format(model.name, format.size(model.download_bytes))
      if model.installed or vim.fn.confirm(question, '&Download\n&No', 2) == 1 then
        load(model.name)
      end
    end)
  end)
end

---@type table<string, intract.Command>
return {
  model = {
    about = 'choose the model, or load the one named',
    server = 'intract.selectModel',
    names = function()
      local result = servers.ask('intract.selectModel', 2000)
      return vim.tbl_map(function(model)
        return model.name
      end, result and result.models or {})
    end,
    run = function(arguments)
      if arguments[1] then
        load(table.concat(arguments, ' '))
      else
        choose()
      end
    end,
  },
}
